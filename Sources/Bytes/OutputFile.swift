import CRWKVKernels
import Glibc
import Synchronization

/// A destination for bytes that can be written at any offset and from any thread, unless the destination is sequential.
package protocol ByteSink: Sendable {
    /// Whether bytes must be written in order, from one thread.
    var isSequential: Bool { get }

    /// Writes bytes at an offset.
    ///
    /// - Throws: ``CheckpointError`` of category `inputOutput`.
    func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(CheckpointError)

    /// Completes the output after all bytes have been written, and waits until the bytes are on disk.
    ///
    /// - Throws: ``CheckpointError`` of category `inputOutput`.
    func finish() throws(CheckpointError)
}

/// A file that is open for writing until the object is deinitialised.
package final class OutputFile: ByteSink {
    /// The minimum size of a write, in bytes, for which the transfer to disk is started immediately.
    private static let writebackSize = 1 << 20

    package let isSequential = false
    private let descriptor: CInt
    /// A lock that makes threads write one at a time; without it, all but one of them would spin in the kernel.
    private let turn = Mutex(())
    /// The path that errors report.
    private let path: String

    /// Creates an output that takes ownership of an open file descriptor; errors report `path`.
    package init(descriptor: CInt, path: String) {
        self.descriptor = descriptor
        self.path = path
    }

    deinit {
        close(descriptor)
    }

    /// Extends the file to `byteCount` bytes and reserves disk space for it, if the file system supports this.
    ///
    /// - Throws: ``CheckpointError`` of category `inputOutput`.
    package func reserve(_ byteCount: Int) throws(CheckpointError) {
        guard rwkv_reserve(descriptor, Int64(byteCount)) == 0 else { throw failure() }
    }

    package func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(CheckpointError) {
        guard turn.withLock({ _ in put(bytes, into: descriptor, at: offset) }) else { throw failure() }
        // Start the transfer to disk now, so that `finish` does not have to wait for all bytes at once.
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

    /// Returns the error for a file that cannot be written for a reason other than a failed system call.
    package func failure(_ problem: String) -> CheckpointError { CheckpointError(.inputOutput, path: path, problem) }
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

/// Creates a file with a random path that begins with `prefix`, and with the permissions `mode` minus the umask.
///
/// On failure, the descriptor is -1 and `errno` is set.
func makeTemporaryFile(prefix: String, mode: mode_t) -> (descriptor: CInt, path: String) {
    let (descriptor, path) = makeTemporary(prefix: prefix) { open($0, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode) }
    return (descriptor, path)
}

/// Creates a directory with a random path that begins with `prefix`, and with the permissions `mode` minus the umask.
///
/// On failure, returns nil and sets `errno`.
package func makeTemporaryDirectory(prefix: String, mode: UInt32) -> String? {
    let (result, path) = makeTemporary(prefix: prefix) { mkdir($0, mode) }
    return result == 0 ? path : nil
}

/// Calls `make` with random paths, up to 100 times, until it succeeds or fails with an error other than `EEXIST`.
///
/// On failure, `make` returns -1 and sets `errno`.
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

/// Creates the error for an output that cannot be created; `code` is the error code of the failed system call.
func creationError(_ code: CInt, path: String) -> CheckpointError {
    let parent = directoryPart(of: path)
    guard code == ENOENT, !parent.isEmpty, PathKind(parent) == .nothing else {
        return systemError(code, path: path, "cannot be created", category: .cannotCreate)
    }
    return CheckpointError(.cannotCreate, path: path, "cannot be created: the directory \(parent) does not exist")
}

/// Returns a path with its symbolic links resolved, so that a link's target is replaced instead of the link.
///
/// On failure, returns `path` itself.
package func resolved(_ path: String) -> String {
    guard let target = realpath(path, nil) else { return path }
    defer { free(target) }
    return String(cString: target)
}

/// Writes `bytes` to a file and returns true, or returns false and sets `errno` on failure.
package func put(_ bytes: UnsafeRawBufferPointer, into descriptor: CInt, at offset: Int) -> Bool {
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

/// Removes a file if it exists.
///
/// - Throws: ``CheckpointError`` of category `cannotCreate` if the file cannot be removed.
public func removeFile(_ path: String) throws(CheckpointError) {
    guard unlink(path) == 0 || errno == ENOENT else {
        throw systemError(errno, path: path, "cannot be replaced", category: .cannotCreate)
    }
}

/// Checks that there is enough disk space for a new file.
///
/// - Parameters:
///   - byteCount: the size of the file in bytes.
///   - path: the path of the file, whose directory must exist.
/// - Throws: ``CheckpointError`` of category `inputOutput` if there is not enough disk space.
public func requireRoom(for byteCount: Int, at path: String) throws(CheckpointError) {
    var status = statvfs()
    guard statvfs(directoryPart(of: path) + ".", &status) == 0 else { return }
    let free = Int(clamping: status.f_bavail).multiplied(clamped: Int(clamping: status.f_frsize))
    guard byteCount <= free else {
        throw CheckpointError(
            .inputOutput, path: path, "not enough disk space", expected: "\(byteCount) bytes", found: "\(free) free")
    }
}
