import Glibc

/// A file that is being written, beside the place where it is to stand, and is gone unless it is committed.
///
/// The place holds what it held before, or all of the new bytes, and never anything between, whatever happens to the process.
public struct UnfinishedFile: ~Copyable {
    private let path: String
    private let temporaryPath: String
    private let descriptor: CInt
    private let replaces: Bool

    /// Begins a file that will stand at `path`.
    ///
    /// - Parameters:
    ///   - path: where it will stand.
    ///   - replaces: whether what stands there already may be replaced.
    /// - Throws: ``CheckpointError`` of category `cannotCreate`.
    public init(path: String, replaces: Bool) throws(CheckpointError) {
        let kind = PathKind(path)
        guard replaces || kind == .nothing else {
            throw CheckpointError(
                .cannotCreate, path: path, "there is something already", advice: "--force replaces it")
        }
        // A device, a socket or a directory is not what anybody wants replaced.
        guard kind == .nothing || kind == .file else {
            throw CheckpointError(.cannotCreate, path: path, "there is something that is not a file")
        }
        // What a link leads to is replaced, not the link.
        var path = path
        if kind == .file, let target = realpath(path, nil) {
            path = String(cString: target)
            free(target)
        }
        let (descriptor, temporaryPath) = makeTemporaryFile(prefix: path)
        guard descriptor >= 0 else {
            throw systemError(errno, path: path, "cannot be created", category: .cannotCreate)
        }
        // As open would have made it.
        let mask = umask(0)
        umask(mask)
        fchmod(descriptor, 0o666 & ~mask)
        self.descriptor = descriptor
        self.path = path
        self.temporaryPath = temporaryPath
        self.replaces = replaces
    }

    deinit {
        close(descriptor)
        // Where it was committed, nothing is there any more.
        unlink(temporaryPath)
    }

    /// Appends bytes.
    ///
    /// - Throws: ``CheckpointError`` of category `inputOutput`.
    public func write(_ bytes: RawSpan) throws(CheckpointError) {
        guard append(bytes, to: descriptor) else {
            throw systemError(errno, path: path, "cannot be written", category: .inputOutput)
        }
    }

    /// Puts the file in its place, once its bytes are safe on the disk.
    ///
    /// - Throws: ``CheckpointError`` of category `inputOutput`, or `cannotCreate` where something has come to stand there.
    public consuming func commit() throws(CheckpointError) {
        guard fsync(descriptor) == 0 else {
            throw systemError(errno, path: path, "cannot be written", category: .inputOutput)
        }
        // A link does not replace, even what came a moment ago.
        guard (replaces ? rename(temporaryPath, path) : link(temporaryPath, path)) == 0 else {
            throw systemError(errno, path: path, "cannot be created", category: .cannotCreate)
        }
        let directory = path.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(path[...$0]) } ?? "."
        let parent = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if parent >= 0 {
            fsync(parent)
            close(parent)
        }
    }
}
