/// Returns the directory part of a path, with its trailing slash; empty if there is none.
package func directoryPart(of path: String) -> String {
    path.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(path[...$0]) } ?? ""
}
