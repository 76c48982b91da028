import Bytes

/// A file format, which is recognised from the bytes of a file and not from its name.
public enum FileFormat: String, Sendable, CaseIterable {
    case safetensors
    case shardIndex = "shard index"
    case pyTorchZip = "PyTorch zip archive"
    case pyTorchLegacy = "PyTorch legacy checkpoint"
    case pickle = "Python pickle"
    case zip = "zip archive"
    case gguf = "GGUF model"
    case rwkvCPP = "rwkv.cpp model"
    case gitLFSPointer = "git-lfs pointer"
    case html = "HTML page"
    case sevenZip = "7z archive"
    case gzip = "gzip file"
    case zstd = "zstd file"
    case tar = "tar archive"
    case numpy = "NumPy array"
    case hdf5 = "HDF5 file"

    /// The number of leading bytes that ``init(head:limits:)`` needs.
    static let headSize = 512

    /// The magic number of each format and its offset; the first match wins.
    private static let signatures: [(format: FileFormat, offset: Int, bytes: [UInt8])] = [
        (.zip, 0, Array("PK\u{3}\u{4}".utf8)),
        (.zip, 0, Array("PK\u{5}\u{6}".utf8)),
        (.gguf, 0, Array("GGUF".utf8)),
        (.rwkvCPP, 0, Array("fmgg".utf8)),
        (.gitLFSPointer, 0, Array("version https://git-lfs".utf8)),
        (.sevenZip, 0, [0x37, 0x7A, 0xBC, 0xAF, 0x27, 0x1C]),
        (.gzip, 0, [0x1F, 0x8B]),
        (.zstd, 0, [0x28, 0xB5, 0x2F, 0xFD]),
        (.numpy, 0, [0x93] + Array("NUMPY".utf8)),
        (.hdf5, 0, [0x89] + Array("HDF\r\n".utf8)),
        (.tar, 257, Array("ustar".utf8)),
    ]

    /// Creates the format that a file's first bytes indicate; nil if they match no format.
    ///
    /// Safetensors files have no magic number. Bytes that start with a plausible header length and a brace are
    /// recognised as safetensors before any other format is tried. If no other format matches, a plausible length or a
    /// brace after the first eight bytes is enough.
    init?(head: [UInt8], limits: ReadLimits) {
        let headerLength = head.count >= 8 ? head.bits(at: 0, count: 8) : nil
        let text = head.drop { $0 == 0x20 || (0x09...0x0D).contains($0) }
        let isPlausible = headerLength.map { $0 <= UInt64(limits.headerBytes) } ?? false
        let headerStart = head.dropFirst(8).drop { $0 == 0x20 || (0x09...0x0D).contains($0) }.first
        if isPlausible, headerStart == UInt8(ascii: "{") {
            self = .safetensors
        } else if head.count >= 8, head[0] >> 4 == 5, head[1..<4].elementsEqual([0x2A, 0x4D, 0x18]) {
            // The file begins with a skippable frame.
            self = .zstd
        } else if let match = Self.signatures.first(where: { head.dropFirst($0.offset).starts(with: $0.bytes) }) {
            // The local header contains the name of the first entry. torch writes `<root>/data.pkl` first.
            let isPyTorch = match.format == .zip && Self.isPyTorchRecord(Self.firstEntryName(ofZip: head))
            self = isPyTorch ? .pyTorchZip : match.format
        } else if Self.beginsLegacyCheckpoint(head) {
            self = .pyTorchLegacy
        } else if head.count >= 2, head[0] == 0x80, (2...5).contains(head[1]), !isPlausible {
            self = .pickle
        } else if Self.isHTML(text) {
            self = .html
        } else if text.first == UInt8(ascii: "{"), headerLength.map({ $0 >> 56 >= 0x09 }) ?? true {
            self = .shardIndex
        } else if isPlausible || (headerLength != nil && headerStart == UInt8(ascii: "{")) {
            self = .safetensors
        } else {
            return nil
        }
    }

    /// Returns whether a record with this name can be the first one in a PyTorch archive, including an archive that
    /// another tool has repacked.
    private static func isPyTorchRecord(_ name: String) -> Bool {
        let path = name.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false).dropFirst().first ?? ""
        return ["data.pkl", "data/", "version", "byteorder", ".format_version", ".storage_alignment", ".data/"]
            .contains { path.hasPrefix($0) }
    }

    /// Returns whether a file begins with a pickle (protocol 2 to 5) of torch's magic number: an optional frame header,
    /// then a ten-byte integer.
    private static func beginsLegacyCheckpoint(_ head: [UInt8]) -> Bool {
        guard head.count >= 14, head[0] == 0x80, (2...5).contains(head[1]) else { return false }
        let number = head.dropFirst(head[2] == 0x95 ? 11 : 2)
        return number.starts(with: [0x8A, 0x0A, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19])
    }

    private static func firstEntryName(ofZip head: [UInt8]) -> String {
        guard head.count >= 30 else { return "" }
        return String(decoding: head.dropFirst(30).prefix(head.integer(at: 26, count: 2)), as: UTF8.self)
    }

    private static func isHTML(_ text: ArraySlice<UInt8>) -> Bool {
        let start = String(decoding: text.prefix(16), as: UTF8.self).lowercased()
        return ["<!doctype", "<html", "<head", "<?xml"].contains { start.hasPrefix($0) }
    }

    /// The raw value with an article: `a PyTorch zip archive`, `an HTML page`.
    var withArticle: String { (rawValue.hasPrefix("H") ? "an " : "a ") + rawValue }

    /// Advice for the user when ``Checkpoint`` cannot read a file in this format.
    var advice: String {
        switch self {
        case .gitLFSPointer: "the file itself was not downloaded: run `git lfs pull`"
        case .html: "the download returned a web page (often a log-in or error page) instead of the file"
        case .sevenZip, .gzip, .tar, .zip: "unpack it first"
        case .pickle: "save the model with torch.save or as safetensors"
        default:
            "this tool reads safetensors files, files written by torch.save, shard indexes of either, and directories of them"
        }
    }
}
