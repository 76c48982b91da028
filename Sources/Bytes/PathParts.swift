/// Returns the directory part of a path, including the trailing slash; empty if the path has no directory part.
package func directoryPart(of path: String) -> String {
    path.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(path[...$0]) } ?? ""
}

/// Returns whether two paths lead to the same file, or to the same place if there is no file yet.
package func leadToSameFile(_ a: String, _ b: String) -> Bool {
    func place(_ path: String) -> (directory: FileSource.Identity?, name: Substring.UTF8View) {
        let directory = directoryPart(of: path)
        return (FileSource.Identity(directory.isEmpty ? "." : directory), path.utf8.dropFirst(directory.utf8.count))
    }
    if let file = FileSource.Identity(a) { return file == FileSource.Identity(b) }
    let (first, second) = (place(a), place(b))
    return first.directory == second.directory && first.name.elementsEqual(second.name)
}
