import Bytes
import CRWKVKernels
import CheckpointFiles
import Foundation
import Synchronization
import TestSupport
import Testing

@Suite struct UnfinishedDirectoryTests {
    private func names(in directory: URL) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: directory.path).sorted()
    }

    @Test func keepsWhatComesWhileItIsFilled() throws {
        try withTemporaryDirectory { directory in
            let path = directory.appending(path: "model").path
            func fill(_ text: String, meanwhile: () throws -> Void) throws {
                let unfinished = try UnfinishedDirectory(path: path) { $0 == ["a"] }
                try unfinished.write(Array(text.utf8), to: "a")
                try meanwhile()
                try unfinished.commit()
            }
            try fill("first") {}
            try fill("second") {}
            let file = directory.appending(path: "model/a")
            #expect(try String(contentsOf: file, encoding: .utf8) == "second")
            #expect(throws: CheckpointError.self) {
                try fill("third") { try Data("mine".utf8).write(to: directory.appending(path: "model/notes.txt")) }
            }
            #expect(try String(contentsOf: file, encoding: .utf8) == "second")
            #expect(try names(in: directory.appending(path: "model")) == ["a", "notes.txt"])
            #expect(try names(in: directory) == ["model"])
        }
    }

    @Test func replacesDirectoriesInItButNothingBehindLinks() throws {
        try withTemporaryDirectory { directory in
            let path = directory.appending(path: "model").path
            func fill() throws {
                let unfinished = try UnfinishedDirectory(path: path) { $0 == ["part/", "part/a"] }
                try unfinished.write([1], to: "part/a")
                try unfinished.commit()
            }
            try fill()
            try fill()
            #expect(try names(in: directory) == ["model"])
            let (part, mine) = (directory.appending(path: "model/part"), directory.appending(path: "mine"))
            try FileManager.default.moveItem(at: part, to: mine)
            try FileManager.default.createSymbolicLink(at: part, withDestinationURL: mine)
            #expect(throws: CheckpointError.self) { try fill() }
            #expect(try names(in: mine) == ["a"] && names(in: directory) == ["mine", "model"])
        }
    }

    /// New files and directories have default permissions, and creating them does not affect the files of other
    /// threads.
    @Test func leavesThePermissionsOfNewFilesAlone() throws {
        try withTemporaryDirectory { directory in
            func mode(_ path: String) -> mode_t {
                var status = stat()
                return stat(path, &status) == 0 ? status.st_mode & 0o777 : 0
            }
            let (plain, made, filled) = (
                directory.path + "/plain", directory.path + "/made", directory.path + "/filled"
            )
            close(open(plain, O_WRONLY | O_CREAT, 0o666))
            let expected = mode(plain)
            let isDone = Atomic(false)
            let maker = Thread {
                for _ in 0..<300 {
                    _ = try? UnfinishedFile(path: made, replaces: false)
                    _ = try? UnfinishedDirectory(path: filled, isReplaceable: nil)
                }
                isDone.store(true, ordering: .sequentiallyConsistent)
            }
            maker.start()
            var others: Set<mode_t> = []
            while !isDone.load(ordering: .sequentiallyConsistent) {
                unlink(plain)
                close(open(plain, O_WRONLY | O_CREAT, 0o666))
                others.insert(mode(plain))
            }
            #expect(others == [expected])
            try UnfinishedFile(path: made, replaces: false).commit()
            try UnfinishedDirectory(path: filled, isReplaceable: nil).commit()
            #expect(mode(made) == expected && mode(filled) == expected | expected >> 2 & 0o111)
            // Replacing a file preserves its permissions.
            chmod(made, 0o640)
            try UnfinishedFile(path: made, replaces: true).commit()
            #expect(mode(made) == 0o640)
        }
    }

    @Test func changesPlacesWhereTheFileSystemCannot() throws {
        try withTemporaryDirectory { directory in
            let (new, old) = (directory.appending(path: "new"), directory.appending(path: "old"))
            for place in [new, old] {
                try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
                try Data().write(to: place.appending(path: place.lastPathComponent))
            }
            #expect(rwkv_exchange_by_renames(new.path, old.path) == 0)
            #expect(try names(in: new) == ["old"] && names(in: old) == ["new"])
            // A failed exchange leaves everything unchanged.
            #expect(rwkv_exchange_by_renames(directory.appending(path: "nothing").path, old.path) == -1)
            #expect(errno == ENOENT)
            #expect(try names(in: directory) == ["new", "old"] && names(in: old) == ["new"])
        }
    }

    @Test func isGoneUnlessItIsCommitted() throws {
        try withTemporaryDirectory { directory in
            let path = directory.appending(path: "model").path
            do {
                let unfinished = try UnfinishedDirectory(path: path, isReplaceable: nil)
                try unfinished.write([1], to: "a")
                #expect(try names(in: directory).count == 1)
            }
            #expect(try names(in: directory).isEmpty)
            // A directory that has been created at the path in the meantime is kept.
            let error = #expect(throws: CheckpointError.self) {
                let unfinished = try UnfinishedDirectory(path: path, isReplaceable: nil)
                try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
                try Data([7]).write(to: directory.appending(path: "model/b"))
                try unfinished.commit()
            }
            #expect(error?.category == .cannotCreate)
            #expect(try names(in: directory) == ["model"])
        }
    }
}
