import CRWKVKernels
import Glibc

/// A directory that is being filled, beside the place where it is to stand, and is gone unless it is committed.
///
/// The place holds what it held before, or all of the new files, and never anything between, whatever happens to the process. Where a file
/// system cannot let two paths change places (NFS), it holds nothing for a moment, and beside it is what it held, `.replaced` by its name.
public struct UnfinishedDirectory: ~Copyable {
    private let path: String
    private let temporaryPath: String
    /// What is in the directory that is replaced.
    private let replacedNames: [String]

    /// Begins a directory that will stand at `path`, where there is nothing, or a directory that is empty, or may be replaced.
    ///
    /// - Parameters:
    ///   - path: where it will stand.
    ///   - isReplaceable: whether a directory with this in it may be replaced, `a/` and `a/b` for a file in a directory; nil where no
    ///     directory may.
    /// - Throws: ``CheckpointError`` of category `cannotCreate`.
    public init(path: String, isReplaceable: ((_ names: [String]) -> Bool)?)
        throws(CheckpointError)
    {
        var path = path
        while path.utf8.count > 1, path.hasSuffix("/") { path.removeLast() }
        guard !path.isEmpty else { throw CheckpointError(.cannotCreate, path: path, "there is no name for it") }
        let kind = PathKind(path)
        guard kind == .nothing || kind == .directory else {
            throw CheckpointError(.cannotCreate, path: path, "there is something that is not a directory")
        }
        let names = kind == .directory ? Self.entries(path) : []
        if !names.isEmpty {
            guard let isReplaceable else {
                throw CheckpointError(
                    .cannotCreate, path: path, "there is something already", advice: "--force replaces it")
            }
            guard isReplaceable(names),
                names.allSatisfy({ PathKind(path + "/" + $0) == ($0.hasSuffix("/") ? .directory : .file) })
            else {
                throw Self.foreign(path)
            }
        }
        if kind == .directory { path = resolved(path) }
        guard let temporaryPath = makeTemporaryDirectory(prefix: path, mode: 0o777) else {
            throw systemError(errno, path: path, "cannot be created", category: .cannotCreate)
        }
        replacedNames = names
        self.path = path
        self.temporaryPath = temporaryPath
    }

    deinit {
        // Where it was committed, what it replaced is there, or nothing.
        for name in Self.entries(temporaryPath).reversed() { remove(temporaryPath + "/" + name) }
        rmdir(temporaryPath)
    }

    /// What is in a directory and in the directories there, which come in front of what is in them, as `a/`.
    private static func entries(_ path: String) -> [String] {
        func names(_ path: String) -> [String] { namesInDirectory(path).filter { $0 != "." && $0 != ".." } }
        return names(path).flatMap { name in
            // Nothing is taken away behind a link.
            guard PathKind(path + "/" + name, ofItself: true) == .directory else { return [name] }
            return ["\(name)/"] + names(path + "/" + name).map { "\(name)/\($0)" }
        }
    }

    private static func foreign(_ path: String) -> CheckpointError {
        CheckpointError(
            .cannotCreate, path: path, "the directory holds what this tool did not write",
            advice: "take another, or move it away")
    }

    /// Makes a file in it, or as `a/b` one in a directory in it.
    ///
    /// - Throws: ``CheckpointError`` of category `cannotCreate`.
    package func create(_ name: String) throws(CheckpointError) -> OutputFile {
        if let slash = name.lastIndex(of: "/") { mkdir(temporaryPath + "/" + name[..<slash], 0o777) }
        let descriptor = open(temporaryPath + "/" + name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
        guard descriptor >= 0 else {
            throw systemError(errno, path: path + "/" + name, "cannot be created", category: .cannotCreate)
        }
        return OutputFile(descriptor: descriptor, path: path + "/" + name)
    }

    /// Makes a file in it that holds `bytes`.
    ///
    /// - Throws: ``CheckpointError`` of category `cannotCreate` or `inputOutput`.
    public func write(_ bytes: [UInt8], to name: String) throws(CheckpointError) {
        let file = try create(name)
        try file.write(bytes, at: 0)
        try file.finish()
    }

    /// Makes a file in it that holds what another does.
    ///
    /// - Throws: ``CheckpointError``: `cannotCreate`, `inputOutput`, or what the source throws.
    public func copy(_ source: some ByteSource, to name: String) throws(CheckpointError) {
        let file = try create(name)
        for start in stride(from: 0, to: source.count, by: 1 << 20) {
            try file.write(source.bytes(start..<min(start + 1 << 20, source.count)), at: start)
        }
        try file.finish()
    }

    /// Puts the directory in its place.
    ///
    /// - Throws: ``CheckpointError`` of category `cannotCreate` where something has come to stand there, or into what is replaced.
    public consuming func commit() throws(CheckpointError) {
        for name in Self.entries(temporaryPath) where name.hasSuffix("/") {
            synchroniseDirectory(of: temporaryPath + "/" + name)
        }
        synchroniseDirectory(of: temporaryPath + "/")
        guard (replacedNames.isEmpty ? rename(temporaryPath, path) : rwkv_exchange(temporaryPath, path)) == 0 else {
            throw systemError(errno, path: path, "cannot be created", category: .cannotCreate)
        }
        if !replacedNames.isEmpty, Self.entries(temporaryPath) != replacedNames {
            // Somebody put something there in the meantime.
            guard rwkv_exchange(temporaryPath, path) == 0 else {
                throw systemError(errno, path: path, "cannot be created", category: .cannotCreate)
            }
            throw Self.foreign(path)
        }
        synchroniseDirectory(of: path)
    }
}
