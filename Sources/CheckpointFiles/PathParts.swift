/// The directory that a path is in, with the slash at its end; nothing where there is none.
package func directoryPart(of path: String) -> String {
    path.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(path[...$0]) } ?? ""
}
