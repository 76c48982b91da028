/// The byte layout of a file in the format of `torch.save`: a zip archive of uncompressed records whose data is aligned
/// to 64 bytes.
///
/// The layout follows torch 2, but omits times, the name of the file and other values that would differ from run to
/// run. See caffe2/serialize/inline_container.cc and PKWARE APPNOTE 6.3.10.
struct PyTorchByteLayout: FileByteLayout {
    private struct Record {
        var name: [UInt8]
        var content: [UInt8] = []
        var byteCount: Int
        /// The offset of the local header in the file, in bytes.
        var start: Int
        /// The offset of the data in the file, in bytes.
        var dataStart: Int

        /// The zip64 extra field, which contains the sizes and the offset that do not fit into 32 bits, or an empty
        /// array if all of them fit.
        var zip64: [UInt8] {
            var fields: [UInt8] = []
            if byteCount >= 0xFFFF_FFFF {
                fields.append(littleEndian: UInt64(byteCount))
                fields.append(littleEndian: UInt64(byteCount))
            }
            if start >= 0xFFFF_FFFF { fields.append(littleEndian: UInt64(start)) }
            guard !fields.isEmpty else { return [] }
            var extra: [UInt8] = []
            extra.append(littleEndian: UInt16(1))
            extra.append(littleEndian: UInt16(fields.count))
            return extra + fields
        }

        /// The general-purpose bit flags: the name is UTF-8, and a data descriptor follows unless the data is empty.
        var flags: UInt16 { byteCount > 0 ? 0x0808 : 0x0800 }

        var descriptorByteCount: Int { byteCount == 0 ? 0 : zip64.isEmpty ? 16 : 24 }
        var end: Int { dataStart + byteCount + descriptorByteCount }
    }

    let ranges: [Range<Int>]
    let byteCount: Int
    let needsChecksums = true
    private let records: [Record]
    /// The index of the first record that holds a tensor.
    private let firstTensor: Int

    private static let root = "archive/"
    private static let alignment = 64

    /// Creates the layout of a file with the given tensors.
    ///
    /// A tensor that shares the bytes of an earlier one does not get a record of its own.
    init(_ tensors: [OutputTensor]) {
        var records: [Record] = []
        func add(_ name: String, _ content: [UInt8] = [], byteCount: Int? = nil) {
            var record = Record(
                name: Array((Self.root + name).utf8), content: content, byteCount: byteCount ?? content.count,
                start: records.last?.end ?? 0, dataStart: 0)
            // The extra field that aligns the data has a 4-byte header.
            let unaligned = record.start + 30 + record.name.count + record.zip64.count + 4
            record.dataStart = (unaligned + Self.alignment - 1) / Self.alignment * Self.alignment
            records.append(record)
        }
        add("data.pkl", PickleWriter.stateDictionary(tensors))
        add("byteorder", Array("little".utf8))
        firstTensor = records.count
        var number = 0
        for tensor in tensors where tensor.sharedWith == nil {
            add("data/\(number)", byteCount: tensor.byteCount)
            number += 1
        }
        add("version", Array("3\n".utf8))
        ranges = records[firstTensor..<records.count - 1].map { $0.dataStart..<$0.dataStart + $0.byteCount }
        let directory = records.reduce(0) { $0 + 46 + $1.name.count + $1.zip64.count }
        byteCount = (records.last?.end ?? 0) + directory + 56 + 20 + 22
        self.records = records
    }

    func bytes(before place: Int, checksums: [UInt32]) -> [UInt8] {
        var bytes: [UInt8] = []
        if place == 0 {
            for record in records[..<firstTensor] { append(record, to: &bytes) }
        } else {
            appendDescriptor(records[firstTensor + place - 1], checksums[place - 1], to: &bytes)
        }
        if place < ranges.count {
            appendHeader(records[firstTensor + place], to: &bytes)
        } else {
            append(records[records.count - 1], to: &bytes)
            appendDirectory(checksums, to: &bytes)
        }
        return bytes
    }

    private func append(_ record: Record, to bytes: inout [UInt8]) {
        appendHeader(record, to: &bytes)
        bytes += record.content
        appendDescriptor(record, record.content.checksum, to: &bytes)
    }

    private func appendHeader(_ record: Record, to bytes: inout [UInt8]) {
        let zip64 = record.zip64
        let extra = record.dataStart - record.start - 30 - record.name.count
        bytes.append(littleEndian: UInt32(0x0403_4B50))
        bytes.append(littleEndian: UInt16(0))
        bytes.append(littleEndian: record.flags)
        // The compression method (stored), time, date, checksum and sizes are zero here. The data descriptor contains
        // the checksum and the sizes.
        bytes.append(contentsOf: repeatElement(0, count: 18))
        bytes.append(littleEndian: UInt16(record.name.count))
        bytes.append(littleEndian: UInt16(extra))
        bytes += record.name
        bytes += zip64
        bytes += "FB".utf8
        let padding = extra - zip64.count - 4
        bytes.append(littleEndian: UInt16(padding))
        bytes.append(contentsOf: repeatElement(UInt8(ascii: "Z"), count: padding))
    }

    private func appendDescriptor(_ record: Record, _ checksum: UInt32, to bytes: inout [UInt8]) {
        guard record.byteCount > 0 else { return }
        bytes.append(littleEndian: UInt32(0x0807_4B50))
        bytes.append(littleEndian: checksum)
        for _ in 0..<2 {
            if record.descriptorByteCount == 24 {
                bytes.append(littleEndian: UInt64(record.byteCount))
            } else {
                bytes.append(littleEndian: UInt32(record.byteCount))
            }
        }
    }

    private func appendDirectory(_ checksums: [UInt32], to bytes: inout [UInt8]) {
        let start = records.last?.end ?? 0
        var directory: [UInt8] = []
        for (number, record) in records.enumerated() {
            let isTensor = firstTensor..<records.count - 1 ~= number
            let zip64 = record.zip64
            directory.append(littleEndian: UInt32(0x0201_4B50))
            directory.append(littleEndian: UInt32(0))
            directory.append(littleEndian: record.flags)
            directory.append(contentsOf: repeatElement(0, count: 6))
            directory.append(
                littleEndian: isTensor ? checksums[number - firstTensor] : record.content.checksum)
            for _ in 0..<2 { directory.append(littleEndian: UInt32(min(record.byteCount, 0xFFFF_FFFF))) }
            directory.append(littleEndian: UInt16(record.name.count))
            directory.append(littleEndian: UInt16(zip64.count))
            // The comment length, the disk number and the attributes are zero.
            directory.append(contentsOf: repeatElement(0, count: 10))
            directory.append(littleEndian: UInt32(min(record.start, 0xFFFF_FFFF)))
            directory += record.name
            directory += zip64
        }
        bytes += directory
        // The zip64 end record, its locator, and the end record.
        bytes.append(littleEndian: UInt32(0x0606_4B50))
        bytes.append(littleEndian: UInt64(44))
        bytes.append(littleEndian: UInt16(0x031E))
        bytes.append(littleEndian: UInt16(45))
        bytes.append(littleEndian: UInt64(0))
        for number in [records.count, records.count, directory.count, start] {
            bytes.append(littleEndian: UInt64(number))
        }
        bytes.append(littleEndian: UInt32(0x0706_4B50))
        bytes.append(littleEndian: UInt32(0))
        bytes.append(littleEndian: UInt64(start + directory.count))
        bytes.append(littleEndian: UInt32(1))
        bytes.append(littleEndian: UInt32(0x0605_4B50))
        bytes.append(littleEndian: UInt32(0))
        for _ in 0..<2 { bytes.append(littleEndian: UInt16(min(records.count, 0xFFFF))) }
        bytes.append(littleEndian: UInt32(min(directory.count, 0xFFFF_FFFF)))
        bytes.append(littleEndian: UInt32(min(start, 0xFFFF_FFFF)))
        bytes.append(littleEndian: UInt16(0))
    }
}
