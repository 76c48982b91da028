import CRWKVKernels
import Glibc
import Synchronization

/// A destination that takes bytes at any offset and from any thread, unless it is sequential.
package protocol ByteSink: Sendable {
    /// Whether bytes must be written in order, from one thread.
    var isSequential: Bool { get }

    /// Writes bytes at an offset.
    ///
    /// - Throws: ``CheckpointError`` of category `inputOutput`.
    func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(CheckpointError)

    /// Ends the output, after all its bytes were written, and waits until they are on disk.
    ///
    /// - Throws: ``CheckpointError`` of category `inputOutput`.
    func finish() throws(CheckpointError)
}

/// A file that is being written, open as long as the value lives.
package final class OutputFile: ByteSink {
    /// A write of this many bytes or more starts going to disk at once, while others follow.
    private static let writebackSize = 1 << 20

    package let isSequential = false
    private let descriptor: CInt
    /// The kernel lets one thread at a time write to a file and makes the others spin; here they wait instead.
    private let turn = Mutex(())
    /// The path that errors name.
    private let path: String

    /// Takes ownership of an open file descriptor; errors name the file by `path`.
    init(descriptor: CInt, path: String) {
        self.descriptor = descriptor
        self.path = path
    }

    deinit {
        close(descriptor)
    }

    /// Reserves disk space, where the file system can, for `byteCount` bytes, which are zero until they are written.
    ///
    /// - Throws: ``CheckpointError`` of category `inputOutput`.
    func reserve(_ byteCount: Int) throws(CheckpointError) {
        guard rwkv_reserve(descriptor, Int64(byteCount)) == 0 else { throw failure() }
    }

    package func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(CheckpointError) {
        guard turn.withLock({ _ in put(bytes, into: descriptor, at: offset) }) else { throw failure() }
        // Otherwise `finish` would wait for all of it.
        if bytes.count >= Self.writebackSize {
            rwkv_begin_writeback(descriptor, Int64(offset), Int64(bytes.count))
        }
    }

    package func finish() throws(CheckpointError) {
        guard fsync(descriptor) == 0 else { throw failure() }
    }

    private func failure() -> CheckpointError {
        systemError(errno, path: path, "cannot be written", category: .inputOutput)
    }

    /// The error for a file that cannot be written though no system call failed.
    func failure(_ problem: String) -> CheckpointError { CheckpointError(.inputOutput, path: path, problem) }
}

extension ByteSink {
    /// Writes bytes at an offset.
    package func write(_ bytes: [UInt8], at offset: Int) throws(CheckpointError) {
        var failure: CheckpointError?
        bytes.withUnsafeBytes { bytes in
            do throws(CheckpointError) { try write(bytes, at: offset) } catch { failure = error }
        }
        if let failure { throw failure }
    }
}

/// Creates a file whose name begins with `prefix`, with permissions `mode` less the process's umask; the descriptor is -1 on
/// failure, which sets `errno`.
func makeTemporaryFile(prefix: String, mode: mode_t) -> (descriptor: CInt, path: String) {
    let (descriptor, path) = makeTemporary(prefix: prefix) { open($0, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode) }
    return (descriptor, path)
}

/// Creates a directory whose name begins with `prefix`, with permissions `mode` less the process's umask; nil on failure, which
/// sets `errno`.
package func makeTemporaryDirectory(prefix: String, mode: UInt32) -> String? {
    let (result, path) = makeTemporary(prefix: prefix) { mkdir($0, mode) }
    return result == 0 ? path : nil
}

/// Creates something under an unused random name; `make` returns -1 on failure and sets `errno`.
private func makeTemporary(prefix: String, _ make: (String) -> CInt) -> (result: CInt, path: String) {
    let characters = "abcdefghijklmnopqrstuvwxyz0123456789"
    var path = prefix
    for _ in 0..<100 {
        path = prefix + "." + String((0..<6).compactMap { _ in characters.randomElement() })
        let result = make(path)
        if result >= 0 || errno != EEXIST { return (result, path) }
    }
    return (-1, path)
}

/// The path without symbolic links, so that a link's target is replaced and not the link; `path` itself if nothing is there.
func resolved(_ path: String) -> String {
    guard let target = realpath(path, nil) else { return path }
    defer { free(target) }
    return String(cString: target)
}

/// Writes all of `bytes` to a file; false on failure, which sets `errno`.
func put(_ bytes: UnsafeRawBufferPointer, into descriptor: CInt, at offset: Int) -> Bool {
    var done = 0
    while done < bytes.count {
        let count = pwrite(descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done, off_t(offset + done))
        guard count >= 0 || errno == EINTR else { return false }
        done += max(0, count)
    }
    return true
}

/// Flushes the directory that contains `path` to disk.
func synchroniseDirectory(of path: String) {
    let descriptor = open(directoryPart(of: path) + ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    fsync(descriptor)
    close(descriptor)
}

/// Removes a file, if it exists.
///
/// - Throws: ``CheckpointError`` of category `cannotCreate`.
public func removeFile(_ path: String) throws(CheckpointError) {
    guard unlink(path) == 0 || errno == ENOENT else {
        throw systemError(errno, path: path, "cannot be replaced", category: .cannotCreate)
    }
}

/// Checks that a disk has room for `byteCount` more bytes.
///
/// - Parameters:
///   - byteCount: the number of bytes.
///   - path: the file to be written, in a directory that exists.
/// - Throws: ``CheckpointError`` of category `inputOutput` if there is too little room.
public func requireRoom(for byteCount: Int, at path: String) throws(CheckpointError) {
    var status = statvfs()
    guard statvfs(directoryPart(of: path) + ".", &status) == 0 else { return }
    let free = Int(clamping: status.f_bavail).multiplied(clamped: Int(clamping: status.f_frsize))
    guard byteCount <= free else {
        throw CheckpointError(
            .inputOutput, path: path, "not enough disk space", expected: "\(byteCount) bytes", found: "\(free) free")
    }
}
