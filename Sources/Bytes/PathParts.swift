/// Returns the directory part of a path, including the trailing slash; empty if the path has no directory part.
package func directoryPart(of path: String) -> String {
    path.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(path[...$0]) } ?? ""
}
