import Bytes

/// The records of a zip archive in the form that torch writes.
///
/// The records are not compressed, share one root directory, and fill the file up to the central directory without
/// gaps. Their local headers and data descriptors agree with the central directory.
///
/// The central directory is authoritative, and there is only one place to look for it: the end record is the last 22
/// bytes of the file, and the directory ends where that record, or the zip64 end record before it, begins. See PKWARE
/// APPNOTE 6.3.10, sections 4.3 and 4.5.3.
struct ZipDirectory: Sendable {
    struct Record: Sendable {
        /// The byte range of the record's data in the file.
        var data: Range<Int>
        var checksum: UInt32
        fileprivate var nameStart: UInt32
        fileprivate var nameCount: UInt16
        fileprivate var flags: UInt16
        fileprivate var usesZip64: Bool

        fileprivate var name: Range<Int> { Int(nameStart)..<Int(nameStart) + Int(nameCount) }
    }

    /// The records, in the order of their data in the file.
    let records: [Record]
    /// Whether any record has a CRC-32; torch writes zero if a record does not have one.
    let hasChecksums: Bool

    /// The bytes of the central directory, with record names in lower case.
    private let text: [UInt8]
    /// The length in bytes of the prefix that all names share: the name of the root directory and a slash.
    private let rootCount: Int
    private let names: NameTable

    /// Creates a directory from the central directory of a zip archive, and checks the local header and the data
    /// descriptor of every record against it.
    ///
    /// - Throws: `CheckpointError` of category `malformed` with an offset, or any error that `source` throws.
    init(_ source: any ByteSource, limits: ReadLimits) throws(CheckpointError) {
        do throws(ZipFailure) {
            let range = try Self.directoryRange(source)
            guard range.bytes.count <= limits.zipDirectoryBytes else {
                throw ZipFailure(
                    "the zip directory is too long", at: range.bytes.lowerBound,
                    expected: "at most \(limits.zipDirectoryBytes) bytes", found: "\(range.bytes.count)")
            }
            var text = try source.bytes(range.bytes, as: ZipFailure.self)
            var records = try Self.records(text, count: range.recordCount, base: range.bytes.lowerBound)
            records.sort { $0.data.lowerBound < $1.data.lowerBound }
            try Self.checkRecords(&records, text: text, source: source, directory: range.bytes.lowerBound)
            rootCount = try Self.rootCount(records, text: text)
            // torch's reader treats names that differ only in case as the same name.
            for record in records {
                for place in record.name where (0x41...0x5A).contains(text[place]) { text[place] |= 0x20 }
            }
            var names = NameTable(capacity: records.count)
            for id in records.indices
            where names.insert(UInt32(id), text: text, range: { records[Int($0)].name }) != nil {
                throw ZipFailure(
                    "the zip archive contains the record \"\(excerpt(text[records[id].name]))\" twice",
                    at: range.bytes.lowerBound + records[id].name.lowerBound)
            }
            hasChecksums = records.contains { $0.checksum != 0 }
            self.records = records
            self.text = text
            self.names = names
        } catch {
            throw error.inFile(source.path)
        }
    }

    /// Returns the index of the record with this name in the root directory, ignoring case, or nil if there is none.
    func record(named name: some Collection<UInt8>) -> Int? {
        let full = text[rootName] + name.map { (0x41...0x5A).contains($0) ? $0 | 0x20 : $0 }
        return names.find(full, text: text) { records[Int($0)].name }.map(Int.init)
    }

    /// The memory that the directory takes, in bytes.
    var byteCount: Int { text.count + records.count * MemoryLayout<Record>.stride + names.byteCount }

    /// Returns a record's name without the root directory, in lower case.
    func name(of record: Record) -> String {
        String(decoding: text[record.name].dropFirst(rootCount), as: UTF8.self)
    }

    private var rootName: Range<Int> {
        let start = records[0].name.lowerBound
        return start..<start + rootCount
    }

    // MARK: Central directory

    /// Reads the end records, which are at the end of the file, and returns the range of the central directory and the
    /// number of its records.
    private static func directoryRange(
        _ source: any ByteSource
    ) throws(ZipFailure) -> (bytes: Range<Int>, recordCount: Int) {
        guard source.count >= 22 else { throw ZipFailure("the zip archive is truncated", at: source.count) }
        let endStart = source.count - 22
        let end = try source.bytes(endStart..<source.count, as: ZipFailure.self)
        guard end.integer(at: 0, count: 4) == 0x0605_4B50, end.integer(at: 20, count: 2) == 0 else {
            throw ZipFailure(
                "the zip archive does not end with a comment-free end record: the file is truncated or has trailing bytes",
                at: endStart)
        }
        var fields: [(name: String, value: Int)] = [
            ("number of this disk", end.integer(at: 4, count: 2)),
            ("disk of the directory", end.integer(at: 6, count: 2)),
            ("number of records on this disk", end.integer(at: 8, count: 2)),
            ("number of records", end.integer(at: 10, count: 2)),
            ("length of the directory", end.integer(at: 12, count: 4)),
            ("offset of the directory", end.integer(at: 16, count: 4)),
        ]
        var directoryEnd = endStart
        if endStart >= 76 {
            let locator = try source.bytes(endStart - 20..<endStart, as: ZipFailure.self)
            if locator.integer(at: 0, count: 4) == 0x0706_4B50 {
                directoryEnd = endStart - 76
                guard locator.integer(at: 8, count: 8) == directoryEnd, locator.integer(at: 4, count: 4) == 0,
                    locator.integer(at: 16, count: 4) == 1
                else {
                    throw ZipFailure(
                        "the zip64 locator does not point to an end record directly before it", at: endStart - 20)
                }
                let record = try source.bytes(directoryEnd..<endStart - 20, as: ZipFailure.self)
                guard record.integer(at: 0, count: 4) == 0x0606_4B50, record.integer(at: 4, count: 8) == 44 else {
                    throw ZipFailure("the zip64 end record is not where its locator points", at: directoryEnd)
                }
                let places = [(16, 4), (20, 4), (24, 8), (32, 8), (40, 8), (48, 8)]
                for (index, (place, count)) in places.enumerated() {
                    let value = record.integer(at: place, count: count)
                    let overflow = index < 4 ? 0xFFFF : 0xFFFF_FFFF
                    guard fields[index].value == value || fields[index].value == overflow else {
                        throw ZipFailure(
                            "the zip archive's end records disagree about the \(fields[index].name)",
                            at: directoryEnd + place, expected: "\(fields[index].value)", found: "\(value)")
                    }
                    fields[index].value = value
                }
            }
        }
        guard fields[0].value == 0, fields[1].value == 0, fields[2].value == fields[3].value else {
            throw ZipFailure("the zip archive spans several disks", at: endStart)
        }
        let (start, count) = (fields[5].value, fields[4].value)
        guard start >= 0, count >= 0, start <= directoryEnd, count == directoryEnd - start else {
            throw ZipFailure(
                "the zip directory does not end where the end record begins", at: endStart,
                expected: "\(directoryEnd)", found: "\(start) + \(count)")
        }
        // A record takes at least 46 bytes in the directory, so this check keeps a wrong count from causing a large
        // allocation.
        guard fields[3].value >= 0, fields[3].value <= count / 46 else {
            throw ZipFailure("the zip directory is too short for its \(fields[3].value) records", at: start)
        }
        return (start..<directoryEnd, fields[3].value)
    }

    /// Reads the records of the central directory.
    ///
    /// The `data` of each record begins at its local header until `checkRecords` has read the header and corrected the
    /// range.
    private static func records(_ text: [UInt8], count: Int, base: Int) throws(ZipFailure) -> [Record] {
        var records: [Record] = []
        records.reserveCapacity(count)
        var position = 0
        for _ in 0..<count {
            guard text.count - position >= 46, text.integer(at: position, count: 4) == 0x0201_4B50 else {
                throw ZipFailure("the zip directory has fewer records than the end record says", at: base + position)
            }
            let start = position
            let nameCount = text.integer(at: start + 28, count: 2)
            let extraCount = text.integer(at: start + 30, count: 2)
            let commentCount = text.integer(at: start + 32, count: 2)
            let nameStart = start + 46
            guard text.count - nameStart >= nameCount + extraCount + commentCount else {
                throw ZipFailure("a record of the zip directory is truncated", at: base + start)
            }
            let name = nameStart..<nameStart + nameCount
            func refused(_ problem: String, expected: String? = nil, found: String? = nil) -> ZipFailure {
                ZipFailure(
                    "the record \"\(excerpt(text[name]))\" \(problem)", at: base + start, expected: expected,
                    found: found)
            }
            if let problem = problem(withName: text[name]) { throw refused(problem) }
            let flags = text.integer(at: start + 8, count: 2)
            guard flags & 0x0001 == 0 else { throw refused("is encrypted") }
            guard flags & ~0x0808 == 0 else { throw refused("has unknown flags, 0x" + String(flags, radix: 16)) }
            let method = text.integer(at: start + 10, count: 2)
            guard method == 0 else {
                let name = [8: ", deflate", 93: ", zstd", 99: ", encryption"][method] ?? ""
                throw refused("is compressed (method \(method)\(name)), which torch does not do")
            }
            var compressedCount = text.integer(at: start + 20, count: 4)
            var dataCount = text.integer(at: start + 24, count: 4)
            var offset = text.integer(at: start + 42, count: 4)
            var disk = text.integer(at: start + 34, count: 2)
            var usesZip64 = false
            var extra = name.upperBound
            let extraEnd = extra + extraCount
            while extra < extraEnd {
                guard extraEnd - extra >= 4, extraEnd - extra - 4 >= text.integer(at: extra + 2, count: 2) else {
                    throw refused("has a truncated extra field")
                }
                let (identifier, count) = (text.integer(at: extra, count: 2), text.integer(at: extra + 2, count: 2))
                if identifier == 1 {
                    guard !usesZip64 else { throw refused("has two zip64 fields") }
                    usesZip64 = true
                    var place = extra + 4
                    func take(_ width: Int, _ value: inout Int, _ overflow: Int) throws(ZipFailure) {
                        guard value == overflow else { return }
                        guard extra + 4 + count - place >= width else {
                            throw refused("has a zip64 field that is too short")
                        }
                        value = text.integer(at: place, count: width)
                        place += width
                    }
                    try take(8, &dataCount, 0xFFFF_FFFF)
                    try take(8, &compressedCount, 0xFFFF_FFFF)
                    try take(8, &offset, 0xFFFF_FFFF)
                    try take(4, &disk, 0xFFFF)
                }
                extra += 4 + count
            }
            guard disk == 0 else { throw refused("is on another disk") }
            guard compressedCount == dataCount else {
                throw refused(
                    "is stored, but its compressed size differs from its size", expected: "\(dataCount)",
                    found: "\(compressedCount)")
            }
            guard offset >= 0, dataCount >= 0, offset <= base - 30, dataCount <= base - 30 - offset else {
                throw refused("does not end before the directory", found: "\(offset) + \(dataCount)")
            }
            records.append(
                Record(
                    data: offset..<offset + dataCount, checksum: UInt32(text.integer(at: start + 16, count: 4)),
                    nameStart: UInt32(nameStart), nameCount: UInt16(nameCount), flags: UInt16(flags),
                    usesZip64: usesZip64))
            position = nameStart + nameCount + extraCount + commentCount
        }
        guard position == text.count else {
            throw ZipFailure("the zip directory has more records than the end record says", at: base + position)
        }
        guard !records.isEmpty else { throw ZipFailure("the zip archive is empty", at: base) }
        return records
    }

    private static func problem(withName name: ArraySlice<UInt8>) -> String? {
        if String(validating: name, as: UTF8.self) == nil { return "has a name that is not UTF-8" }
        if name.contains(where: { $0 < 0x20 || $0 == 0x7F }) { return "has control characters in its name" }
        if name.contains(UInt8(ascii: "\\")) { return "has a backslash in its name" }
        let parts = name.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        if parts.contains(where: { $0.isEmpty || $0.elementsEqual("..".utf8) || $0.elementsEqual(".".utf8) }) {
            return "is a directory, or has an empty, \".\" or \"..\" component in its name"
        }
        return nil
    }

    // MARK: Records

    /// Checks the local header and the data descriptor of every record, and sets `data` to the range between them.
    private static func checkRecords(
        _ records: inout [Record], text: [UInt8], source: any ByteSource, directory: Int
    ) throws(ZipFailure) {
        var end = 0
        // The length of the previous record's data descriptor, which precedes the local header of the current record.
        var descriptor = 0
        for index in records.indices {
            let record = records[index]
            let name = text[record.name]
            let offset = record.data.lowerBound
            func refused(_ problem: String, expected: String? = nil, found: String? = nil) -> ZipFailure {
                ZipFailure("the record \"\(excerpt(name))\" \(problem)", at: offset, expected: expected, found: found)
            }
            guard offset == end + descriptor else {
                throw refused(
                    offset < end + descriptor
                        ? "overlaps another record" : "has bytes before it that belong to no record",
                    expected: "\(end + descriptor)", found: "\(offset)")
            }
            guard directory - offset >= 30 + name.count else { throw refused("extends into the directory") }
            let between = try source.bytes(end..<offset + 30 + name.count, as: ZipFailure.self)
            if index > 0 { try checkDescriptor(between, of: records[index - 1], text: text) }
            let header = Array(between[descriptor...])
            guard header.integer(at: 0, count: 4) == 0x0403_4B50 else {
                throw refused("has no local header at its offset")
            }
            guard header.integer(at: 26, count: 2) == name.count, header[30...].elementsEqual(name) else {
                throw refused("has a different name in its local header", found: "\"\(excerpt(header[30...]))\"")
            }
            guard header.integer(at: 6, count: 2) == Int(record.flags), header.integer(at: 8, count: 2) == 0 else {
                throw refused("has different flags, or a different compression method, in its local header")
            }
            // torch writes zeros here and the values into the data descriptor. Sizes that do not fit into 32 bits are
            // in the zip64 extra field.
            let isDeferred = record.flags & 8 != 0
            for (place, value) in [(14, Int(record.checksum)), (18, record.data.count), (22, record.data.count)] {
                let found = header.integer(at: place, count: 4)
                let isElsewhere = place != 14 && record.usesZip64 && found == 0xFFFF_FFFF
                guard found == value || (isDeferred && found == 0) || isElsewhere else {
                    throw refused(
                        "has a different \(place == 14 ? "checksum" : "size") in its local header",
                        expected: "\(value)",
                        found: "\(found)")
                }
            }
            let start = offset + 30 + name.count + header.integer(at: 28, count: 2)
            descriptor = isDeferred ? (record.usesZip64 ? 24 : 16) : 0
            guard directory - descriptor >= start, directory - descriptor - start >= record.data.count else {
                throw refused("extends into the directory")
            }
            end = start + record.data.count
            records[index].data = start..<end
        }
        guard end + descriptor == directory else {
            throw ZipFailure(
                "there are bytes between the last record and the zip directory", at: end + descriptor,
                expected: "\(directory)", found: "\(end + descriptor)")
        }
        if let last = records.last {
            try checkDescriptor(try source.bytes(end..<directory, as: ZipFailure.self), of: last, text: text)
        }
    }

    /// Checks that the data descriptor at the start of `bytes` agrees with `record`, if the record has a data
    /// descriptor.
    private static func checkDescriptor(_ bytes: [UInt8], of record: Record, text: [UInt8]) throws(ZipFailure) {
        guard record.flags & 8 != 0 else { return }
        let width = record.usesZip64 ? 8 : 4
        guard bytes.integer(at: 0, count: 4) == 0x0807_4B50, bytes.integer(at: 4, count: 4) == Int(record.checksum),
            bytes.integer(at: 8, count: width) == record.data.count,
            bytes.integer(at: 8 + width, count: width) == record.data.count
        else {
            throw ZipFailure(
                "the record \"\(excerpt(text[record.name]))\" has a data descriptor that disagrees with the directory",
                at: record.data.upperBound)
        }
    }

    private static func rootCount(_ records: [Record], text: [UInt8]) throws(ZipFailure) -> Int {
        let first = text[records[0].name]
        guard let slash = first.firstIndex(of: UInt8(ascii: "/")) else {
            throw ZipFailure("the zip archive's records are not in a root directory", at: 0)
        }
        let root = first[...slash]
        for record in records where !text[record.name].starts(with: root) {
            throw ZipFailure(
                "the record \"\(excerpt(text[record.name]))\" is not in the root directory",
                at: record.data.lowerBound, expected: "\"\(excerpt(root))…\"")
        }
        return root.count
    }
}

/// An error in reading a zip archive: the archive is malformed, or its bytes cannot be read.
private enum ZipFailure: Error {
    case malformed(MalformedInput)
    case reading(CheckpointError)

    init(_ problem: String, at offset: Int, expected: String? = nil, found: String? = nil) {
        self = .malformed(MalformedInput(problem, at: offset, expected: expected, found: found))
    }

    func inFile(_ path: String) -> CheckpointError {
        switch self {
        case .malformed(let malformed): CheckpointError(malformed, path: path)
        case .reading(let error): error
        }
    }
}

extension ByteSource {
    fileprivate func bytes(_ range: Range<Int>, as: ZipFailure.Type) throws(ZipFailure) -> [UInt8] {
        do throws(CheckpointError) { return try bytes(range) } catch { throw .reading(error) }
    }
}
