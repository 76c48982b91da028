import CRWKVKernels
import Glibc

/// A file that is written under a temporary name next to its final path, and deleted unless it is committed.
///
/// At any time, even if the process dies, the path holds either its old content or all of the new content.
public struct UnfinishedFile: ~Copyable {
    package let file: OutputFile
    private let path: String
    private let temporaryPath: String
    private let replaces: Bool

    /// Creates the temporary file for `path`.
    ///
    /// - Parameters:
    ///   - path: the final path.
    ///   - replaces: whether an existing file may be replaced.
    ///   - followsLinks: whether to replace the target of a symbolic link instead of the link.
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
        // Use the permissions of the file to be replaced, or those that `open` gives a new file.
        var status = stat()
        let isThere = kind == .file && stat(path, &status) == 0
        let (descriptor, temporaryPath) = makeTemporaryFile(prefix: path, mode: isThere ? 0o600 : 0o666)
        guard descriptor >= 0 else {
            throw systemError(errno, path: path, "cannot be created", category: .cannotCreate)
        }
        if isThere { fchmod(descriptor, status.st_mode & 0o777) }
        file = OutputFile(descriptor: descriptor, path: path)
        self.path = path
        self.temporaryPath = temporaryPath
        self.replaces = replaces
    }

    deinit {
        // After a commit, no file has this name any more.
        unlink(temporaryPath)
    }

    /// Writes the whole content of the file.
    ///
    /// - Throws: ``CheckpointError`` of category `inputOutput`.
    public func write(_ bytes: [UInt8]) throws(CheckpointError) {
        try file.write(bytes, at: 0)
    }

    /// Moves the file to its final path once its bytes are on disk.
    ///
    /// - Throws: ``CheckpointError``: `inputOutput`, or `cannotCreate` if the file cannot be moved to the path, for
    ///   instance because something has been created there in the meantime.
    public consuming func commit() throws(CheckpointError) {
        try file.finish()
        // Without `replaces`, do not replace even a file created a moment ago.
        guard (replaces ? rename(temporaryPath, path) : rwkv_rename_new(temporaryPath, path)) == 0 else {
            throw systemError(errno, path: path, "cannot be created", category: .cannotCreate)
        }
        synchroniseDirectory(of: path)
    }
}
