import Glibc

/// A regular file that is read with `pread` and stays open until this object is deallocated.
public final class FileSource: ByteSource {
    /// The path as given when the file was opened.
    public let path: String
    /// The size of the file in bytes when it was opened.
    public let count: Int
    /// The device and inode numbers, which identify the file regardless of its path.
    package let identity: Identity
    package let descriptor: CInt

    /// The device and number of a file, which are the same under all its names.
    package struct Identity: Hashable, Sendable {
        var device: UInt64
        var number: UInt64

        /// Looks up the identity of the file at `path`, following symbolic links; nil if the lookup fails.
        package init?(_ path: String) {
            var status = stat()
            guard stat(path, &status) == 0 else { return nil }
            self.init(status)
        }

        init(_ status: stat) { (device, number) = (UInt64(status.st_dev), UInt64(status.st_ino)) }
    }

    /// Creates a source that takes ownership of an open file descriptor.
    package init(descriptor: CInt, path: String, count: Int) {
        self.descriptor = descriptor
        self.path = path
        self.count = count
        self.identity = Identity(stat())
    }

    /// Opens the regular file at `path`, following symbolic links.
    ///
    /// - Throws: ``CheckpointError``: `notFound` when the file does not exist or cannot be accessed, `unsupported` when
    ///   it is not a regular file, or `inputOutput` when it cannot be opened for another reason.
    public init(path: String) throws(CheckpointError) {
        // Without O_NONBLOCK, opening a named pipe would wait for a writer.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        let notRegular = CheckpointError(
            .unsupported, path: path, "is not a regular file", advice: "checkpoints need random access")
        guard descriptor >= 0 else {
            // ENXIO means that the path is a socket, or a device that does not exist.
            throw errno == ENXIO ? notRegular : systemError(errno, path: path, "cannot be opened")
        }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            close(descriptor)
            throw notRegular
        }
        self.identity = Identity(status)
        self.path = path
        self.count = Int(status.st_size)
        self.descriptor = descriptor
    }

    deinit {
        close(descriptor)
    }

    /// Fills `buffer` with the bytes of the file, starting at `offset`, in as many reads as necessary.
    ///
    /// - Throws: ``CheckpointError`` of category `inputOutput` when reading fails or the file has become too short.
    public func read(into buffer: inout MutableRawSpan, at offset: Int) throws(CheckpointError) {
        var done = 0
        while done < buffer.byteCount {
            let count = buffer.withUnsafeMutableBytes { bytes in
                pread(descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done, off_t(offset + done))
            }
            if count < 0 {
                guard errno == EINTR else {
                    throw systemError(errno, path: path, "cannot be read", offset: offset + done)
                }
            } else if count == 0 {
                throw CheckpointError(
                    .inputOutput, path: path, "the file was truncated while it was being read", offset: offset + done)
            } else {
                done += count
            }
        }
    }
}

/// Opens a checkpoint file.
///
/// If `path` may be the name of a model on a hub, such as `Qwen/Qwen3-8B`, the error says that nothing is downloaded.
///
/// - Throws: ``CheckpointError`` in the same cases as ``FileSource/init(path:)``.
package func checkpointSource(path: String) throws(CheckpointError) -> FileSource {
    do {
        return try FileSource(path: path)
    } catch {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        guard error.category == .notFound, parts.count == 2, !parts[0].isEmpty, PathKind(String(parts[0])) == .nothing
        else { throw error }
        var error = error
        error.advice = "nothing is downloaded: give the path of a downloaded model"
        throw error
    }
}

/// The kind of file at a path.
package enum PathKind {
    case directory
    case file
    case other
    /// A symbolic link to a path that does not exist.
    case danglingLink
    case nothing

    /// Looks up the kind of file at `path`, following symbolic links unless `ofItself` is true; `other` if the lookup
    /// fails.
    package init(_ path: String, ofItself: Bool = false) {
        var status = stat()
        if (ofItself ? lstat(path, &status) : stat(path, &status)) == 0 {
            switch status.st_mode & S_IFMT {
            case S_IFDIR: self = .directory
            case S_IFREG: self = .file
            default: self = .other
            }
        } else if [ENOENT, ENOTDIR, ENAMETOOLONG].contains(errno) {
            self = lstat(path, &status) == 0 ? .danglingLink : .nothing
        } else {
            self = .other
        }
    }
}

/// Returns the names of all entries in a directory, including `.` and `..`, sorted by their bytes; empty if the
/// directory cannot be read.
package func namesInDirectory(_ path: String) -> [String] {
    guard let directory = opendir(path) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
        let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        names.append(name)
    }
    return names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
}

/// Returns the error for a failed system call.
///
/// `code` determines the category unless one is given.
package func systemError(
    _ code: CInt, path: String, _ problem: String, offset: Int? = nil, category: CheckpointError.Category? = nil
) -> CheckpointError {
    let missing = [ENOENT, ENOTDIR, EACCES, EPERM, ELOOP, ENAMETOOLONG].contains(code)
    return CheckpointError(
        category ?? (missing ? .notFound : .inputOutput), path: path, problem + ": " + String(cString: strerror(code)),
        offset: offset
    )
}
