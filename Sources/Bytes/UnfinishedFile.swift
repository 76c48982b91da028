import CRWKVKernels
import Glibc

/// A file that is written under a temporary name next to its final path, and deleted unless it is committed.
///
/// Even if the process dies, the final path always has either its old content or all of the new content.
public struct UnfinishedFile: ~Copyable {
    package let file: OutputFile
    private let path: String
    private let temporaryPath: String
    private let replaces: Bool

    /// Creates a temporary file that will be moved to `path`.
    ///
    /// - Parameters:
    ///   - path: the final path.
    ///   - replaces: whether an existing file may be replaced.
    ///   - followsLinks: whether to replace the target of a symbolic link instead of the link itself.
    /// - Throws: ``CheckpointError`` of category `cannotCreate`.
    public init(path: String, replaces: Bool, followsLinks: Bool = true) throws(CheckpointError) {
        let kind = PathKind(path)
        guard replaces || kind == .nothing else {
            throw CheckpointError(
                .cannotCreate, path: path, "already exists", advice: "--force replaces it")
        }
        // Devices, sockets and directories are never replaced.
        guard kind == .nothing || kind == .file else {
            throw CheckpointError(.cannotCreate, path: path, "exists and is not a regular file")
        }
        let path = kind == .file && followsLinks ? resolved(path) : path
        // Use the permissions of the file being replaced, or the default permissions of a new file.
        var status = stat()
        let isThere = kind == .file && stat(path, &status) == 0
        let (descriptor, temporaryPath) = makeTemporaryFile(prefix: path, mode: isThere ? 0o600 : 0o666)
        guard descriptor >= 0 else {
            throw creationError(errno, path: path)
        }
        if isThere { fchmod(descriptor, status.st_mode & 0o777) }
        file = OutputFile(descriptor: descriptor, path: path)
        self.path = path
        self.temporaryPath = temporaryPath
        self.replaces = replaces
    }

    deinit {
        // After a commit, the temporary path no longer exists.
        unlink(temporaryPath)
    }

    /// Writes the content of the file.
    ///
    /// - Throws: ``CheckpointError`` of category `inputOutput`.
    public func write(_ bytes: [UInt8]) throws(CheckpointError) {
        try file.write(bytes, at: 0)
    }

    /// Waits until the file is on disk and moves it to its final path.
    ///
    /// - Throws: ``CheckpointError`` of category `inputOutput` if the file cannot be written to disk, or `cannotCreate`
    ///   if the file cannot be moved, for example because another file has been created at the path in the meantime.
    public consuming func commit() throws(CheckpointError) {
        try file.finish()
        // Without `replaces`, fail if a file has been created at the path in the meantime.
        guard (replaces ? rename(temporaryPath, path) : rwkv_rename_new(temporaryPath, path)) == 0 else {
            throw systemError(errno, path: path, "cannot be created", category: .cannotCreate)
        }
        synchroniseDirectory(of: path)
    }
}
