import CRWKVKernels
import Glibc

/// A file that is being written, beside the place where it is to stand, and is gone unless it is committed.
///
/// The place holds what it held before, or all of the new bytes, and never anything between, whatever happens to the process.
public struct UnfinishedFile: ~Copyable {
    package let file: OutputFile
    private let path: String
    private let temporaryPath: String
    private let replaces: Bool

    /// Begins a file that will stand at `path`.
    ///
    /// - Parameters:
    ///   - path: where it will stand.
    ///   - replaces: whether what stands there already may be replaced.
    ///   - followsLinks: whether it is what a link leads to that is replaced, not the link.
    /// - Throws: ``CheckpointError`` of category `cannotCreate`.
    public init(path: String, replaces: Bool, followsLinks: Bool = true) throws(CheckpointError) {
        let kind = PathKind(path)
        guard replaces || kind == .nothing else {
            throw CheckpointError(
                .cannotCreate, path: path, "there is something already", advice: "--force replaces it")
        }
        // A device, a socket or a directory is not what anybody wants replaced.
        guard kind == .nothing || kind == .file else {
            throw CheckpointError(.cannotCreate, path: path, "there is something that is not a file")
        }
        let path = kind == .file && followsLinks ? resolved(path) : path
        // As what it replaces, or as open would have made it.
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
        // Where it was committed, nothing is there any more.
        unlink(temporaryPath)
    }

    /// Writes all that the file is to hold.
    ///
    /// - Throws: ``CheckpointError`` of category `inputOutput`.
    public func write(_ bytes: [UInt8]) throws(CheckpointError) {
        try file.write(bytes, at: 0)
    }

    /// Puts the file in its place, once its bytes are safe on the disk.
    ///
    /// - Throws: ``CheckpointError`` of category `inputOutput`, or `cannotCreate` where something has come to stand there.
    public consuming func commit() throws(CheckpointError) {
        try file.finish()
        // Even what came a moment ago is not replaced where it may not be.
        guard (replaces ? rename(temporaryPath, path) : rwkv_rename_new(temporaryPath, path)) == 0 else {
            throw systemError(errno, path: path, "cannot be created", category: .cannotCreate)
        }
        synchroniseDirectory(of: path)
    }
}
