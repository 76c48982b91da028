import CRWKVKernels
import Glibc

/// A directory that is filled under a temporary name next to its final path, and deleted unless it is committed.
///
/// Even if the process dies, the final path always has either its old files or all of the new files. The only exception
/// is a file system that cannot exchange two paths atomically, such as NFS. On such a file system, the final path does
/// not exist for a moment, and the old directory is next to it under a name that ends in `.replaced`.
public struct UnfinishedDirectory: ~Copyable {
    private let path: String
    private let temporaryPath: String
    /// The entries of the directory that will be replaced.
    private let replacedNames: [String]

    /// Creates a temporary directory that will be moved to `path`.
    ///
    /// If `path` exists, it must be a directory that is empty or replaceable.
    ///
    /// - Parameters:
    ///   - path: the final path.
    ///   - isReplaceable: a function that returns whether a directory with the given entries can be replaced; a file
    ///     `b` in a subdirectory `a` gives the entries `a/` and `a/b`. If nil, only an empty directory can be replaced.
    /// - Throws: ``CheckpointError`` of category `cannotCreate`.
    public init(path: String, isReplaceable: ((_ names: [String]) -> Bool)?)
        throws(CheckpointError)
    {
        var path = path
        while path.utf8.count > 1, path.hasSuffix("/") { path.removeLast() }
        guard !path.isEmpty else { throw CheckpointError(.cannotCreate, path: path, "the path is empty") }
        let kind = PathKind(path)
        guard kind == .nothing || kind == .directory else {
            throw CheckpointError(.cannotCreate, path: path, "exists and is not a directory")
        }
        let names = kind == .directory ? Self.entries(path) : []
        if !names.isEmpty {
            guard let isReplaceable else {
                throw CheckpointError(
                    .cannotCreate, path: path, "already exists", advice: "--force replaces it")
            }
            guard isReplaceable(names),
                names.allSatisfy({ PathKind(path + "/" + $0) == ($0.hasSuffix("/") ? .directory : .file) })
            else {
                throw Self.foreign(path)
            }
        }
        if kind == .directory { path = resolved(path) }
        guard let temporaryPath = makeTemporaryDirectory(prefix: path, mode: 0o777) else {
            throw creationError(errno, path: path)
        }
        replacedNames = names
        self.path = path
        self.temporaryPath = temporaryPath
    }

    deinit {
        // After a commit, the temporary path holds the replaced directory or does not exist.
        for name in Self.entries(temporaryPath).reversed() { remove(temporaryPath + "/" + name) }
        rmdir(temporaryPath)
    }

    /// Returns the entries of a directory and of its direct subdirectories; a subdirectory `a/` precedes its entries.
    private static func entries(_ path: String) -> [String] {
        func names(_ path: String) -> [String] { namesInDirectory(path).filter { $0 != "." && $0 != ".." } }
        return names(path).flatMap { name in
            // Do not follow symbolic links, so that nothing outside the directory is deleted.
            guard PathKind(path + "/" + name, ofItself: true) == .directory else { return [name] }
            return ["\(name)/"] + names(path + "/" + name).map { "\(name)/\($0)" }
        }
    }

    private static func foreign(_ path: String) -> CheckpointError {
        CheckpointError(
            .cannotCreate, path: path, "the directory contains files that this tool did not write",
            advice: "choose another directory, or move this one out of the way")
    }

    /// Creates a file in the directory or, with a name such as `a/b`, in a subdirectory.
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

    /// Creates a file with the content `bytes`.
    ///
    /// - Throws: ``CheckpointError`` of category `cannotCreate` or `inputOutput`.
    public func write(_ bytes: [UInt8], to name: String) throws(CheckpointError) {
        let file = try create(name)
        try file.write(bytes, at: 0)
        try file.finish()
    }

    /// Creates a file with the content of `source`.
    ///
    /// - Throws: ``CheckpointError`` of category `cannotCreate` or `inputOutput`, or any error that `source` throws.
    public func copy(_ source: some ByteSource, to name: String) throws(CheckpointError) {
        let file = try create(name)
        for start in stride(from: 0, to: source.count, by: 1 << 20) {
            try file.write(source.bytes(start..<min(start + 1 << 20, source.count)), at: start)
        }
        try file.finish()
    }

    /// Moves the directory to its final path.
    ///
    /// - Throws: ``CheckpointError`` of category `cannotCreate` if the directory cannot be moved, or if the entries of
    ///   the directory that it replaces have changed in the meantime.
    public consuming func commit() throws(CheckpointError) {
        for name in Self.entries(temporaryPath) where name.hasSuffix("/") {
            synchroniseDirectory(of: temporaryPath + "/" + name)
        }
        synchroniseDirectory(of: temporaryPath + "/")
        guard (replacedNames.isEmpty ? rename(temporaryPath, path) : rwkv_exchange(temporaryPath, path)) == 0 else {
            throw systemError(errno, path: path, "cannot be created", category: .cannotCreate)
        }
        if !replacedNames.isEmpty, Self.entries(temporaryPath) != replacedNames {
            // The old entries have changed in the meantime: put the old directory back.
            guard rwkv_exchange(temporaryPath, path) == 0 else {
                throw systemError(errno, path: path, "cannot be created", category: .cannotCreate)
            }
            throw Self.foreign(path)
        }
        synchroniseDirectory(of: path)
    }
}
