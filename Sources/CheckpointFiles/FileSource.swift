import Glibc

/// A regular file, read with `pread` and open as long as the value lives.
public final class FileSource: ByteSource {
    /// The path by which it was opened.
    public let path: String
    /// The size when it was opened.
    public let count: Int
    /// What makes it the same file under another name.
    let identity: Identity
    let descriptor: CInt

    struct Identity: Hashable, Sendable {
        var device: UInt64
        var number: UInt64

        /// That of what a path leads to; nil where it leads to nothing.
        init?(_ path: String) {
            var status = stat()
            guard stat(path, &status) == 0 else { return nil }
            self.init(status)
        }

        init(_ status: stat) { (device, number) = (UInt64(status.st_dev), UInt64(status.st_ino)) }
    }

    /// Takes over an open file.
    init(descriptor: CInt, path: String, count: Int) {
        self.descriptor = descriptor
        self.path = path
        self.count = count
        self.identity = Identity(stat())
    }

    /// Opens the regular file at `path`, following symbolic links.
    ///
    /// - Throws: ``CheckpointError`` of category `notFound` when it cannot be opened, `unsupported` when it is no regular file.
    public init(path: String) throws(CheckpointError) {
        // Without O_NONBLOCK a named pipe would wait here for a writer.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        let notRegular = CheckpointError(
            .unsupported, path: path, "is not a regular file", advice: "checkpoints are read at many places at once")
        guard descriptor >= 0 else {
            // A socket, or a device that is not there.
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

    /// Reads from the file, as often as it takes.
    ///
    /// - Throws: ``CheckpointError`` of category `inputOutput` when reading fails or the file has become shorter.
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
                    .inputOutput, path: path, "the file became shorter while it was read", offset: offset + done)
            } else {
                done += count
            }
        }
    }
}

/// What stands at a path.
enum PathKind {
    case directory
    case file
    case other
    /// A symbolic link to nothing.
    case danglingLink
    case nothing

    /// What a path leads to, through symbolic links, or what stands there itself; what may not be looked at is other.
    init(_ path: String, ofItself: Bool = false) {
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

/// The names in a directory, sorted by their bytes; none when it cannot be read.
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

/// The error for a failed system call.
func systemError(
    _ code: CInt, path: String, _ problem: String, offset: Int? = nil, category: CheckpointError.Category? = nil
) -> CheckpointError {
    let missing = [ENOENT, ENOTDIR, EACCES, EPERM, ELOOP, ENAMETOOLONG].contains(code)
    return CheckpointError(
        category ?? (missing ? .notFound : .inputOutput), path: path, problem + ": " + String(cString: strerror(code)),
        offset: offset
    )
}
