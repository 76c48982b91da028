import CRWKVKernels
import Glibc
import Synchronization

/// Bytes on their way out, put at any place, from any thread unless they go out in order.
package protocol ByteSink: Sendable {
    /// Whether bytes are taken in order alone, one behind the other, from one thread.
    var isSequential: Bool { get }

    /// Puts bytes at a place.
    ///
    /// - Throws: ``CheckpointError`` of category `inputOutput`.
    func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(CheckpointError)

    /// Ends the output, all of whose bytes were given, and waits until they are safe on their disk.
    ///
    /// - Throws: ``CheckpointError`` of category `inputOutput`.
    func finish() throws(CheckpointError)
}

/// A file that is being written, open as long as the value lives.
package final class OutputFile: ByteSink {
    /// So much is handed on to the disk while the rest is still being written.
    private static let writebackSize = 1 << 20

    package let isSequential = false
    private let descriptor: CInt
    /// The system lets one thread write to a file at a time, and has others wait for it at full speed.
    private let turn = Mutex(())
    /// What errors call it.
    private let path: String

    /// Takes over an open file that errors call `path`.
    init(descriptor: CInt, path: String) {
        self.descriptor = descriptor
        self.path = path
    }

    deinit {
        close(descriptor)
    }

    /// Makes sure of room for so many bytes, which are zero until they are written.
    ///
    /// - Throws: ``CheckpointError`` of category `inputOutput`.
    func reserve(_ byteCount: Int) throws(CheckpointError) {
        guard rwkv_reserve(descriptor, Int64(byteCount)) == 0 else { throw failure() }
    }

    package func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(CheckpointError) {
        guard turn.withLock({ _ in put(bytes, into: descriptor, at: offset) }) else { throw failure() }
        // Else all of it would be waited for at the end.
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

    /// The error for a file that cannot be written for a reason of ours.
    func failure(_ problem: String) -> CheckpointError { CheckpointError(.inputOutput, path: path, problem) }
}

extension ByteSink {
    /// Puts bytes at a place.
    package func write(_ bytes: [UInt8], at offset: Int) throws(CheckpointError) {
        var failure: CheckpointError?
        bytes.withUnsafeBytes { bytes in
            do throws(CheckpointError) { try write(bytes, at: offset) } catch { failure = error }
        }
        if let failure { throw failure }
    }
}

/// Makes a file whose name begins with `prefix`, with those permissions of `mode` that the process gives to new files; its
/// descriptor is -1 where it cannot be made (`errno`).
func makeTemporaryFile(prefix: String, mode: mode_t) -> (descriptor: CInt, path: String) {
    let (descriptor, path) = makeTemporary(prefix: prefix) { open($0, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode) }
    return (descriptor, path)
}

/// Makes a directory whose name begins with `prefix`, with those permissions of `mode` that the process gives to new files; nil
/// where it cannot be made (`errno`).
package func makeTemporaryDirectory(prefix: String, mode: UInt32) -> String? {
    let (result, path) = makeTemporary(prefix: prefix) { mkdir($0, mode) }
    return result == 0 ? path : nil
}

/// Makes something under a random name that nothing has yet; `make` gives -1 where it fails (`errno`).
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

/// What a link leads to, where it leads to something: that is replaced, not the link.
func resolved(_ path: String) -> String {
    guard let target = realpath(path, nil) else { return path }
    defer { free(target) }
    return String(cString: target)
}

/// Puts all of `bytes` into a file; false where it takes no more (`errno`).
func put(_ bytes: UnsafeRawBufferPointer, into descriptor: CInt, at offset: Int) -> Bool {
    var done = 0
    while done < bytes.count {
        let count = pwrite(descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done, off_t(offset + done))
        guard count >= 0 || errno == EINTR else { return false }
        done += max(0, count)
    }
    return true
}

/// Makes what was done to the names in the directory of `path` safe on its disk.
func synchroniseDirectory(of path: String) {
    let descriptor = open(directoryPart(of: path) + ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    fsync(descriptor)
    close(descriptor)
}

/// Takes a file away, where there is one.
///
/// - Throws: ``CheckpointError`` of category `cannotCreate`.
public func removeFile(_ path: String) throws(CheckpointError) {
    guard unlink(path) == 0 || errno == ENOENT else {
        throw systemError(errno, path: path, "cannot be replaced", category: .cannotCreate)
    }
}

/// Makes sure that a disk has room for so many bytes more.
///
/// - Parameters:
///   - byteCount: how many.
///   - path: of what is to be written, in a directory that exists.
/// - Throws: ``CheckpointError`` of category `inputOutput`.
public func requireRoom(for byteCount: Int, at path: String) throws(CheckpointError) {
    var status = statvfs()
    guard statvfs(directoryPart(of: path) + ".", &status) == 0 else { return }
    let free = Int(clamping: status.f_bavail).multiplied(clamped: Int(clamping: status.f_frsize))
    guard byteCount <= free else {
        throw CheckpointError(
            .inputOutput, path: path, "the disk is too small", expected: "\(byteCount) bytes", found: "\(free) free")
    }
}
