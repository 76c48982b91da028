import Crypto

/// Computes the SHA-256 hash of `bytes` and returns it as 64 hexadecimal digits.
public func sha256(of bytes: [UInt8]) -> String { hexadecimal(SHA256.hash(data: bytes)) }

/// Computes the SHA-256 hash of `bytes` and returns its 32 bytes.
package func sha256(of bytes: UnsafeRawBufferPointer) -> [UInt8] {
    var hash = SHA256()
    hash.update(bufferPointer: bytes)
    return Array(hash.finalize())
}

/// Returns `bytes` as lowercase hexadecimal digits, two per byte.
public func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
    bytes.reduce(into: "") { text, byte in text += (byte < 16 ? "0" : "") + String(byte, radix: 16) }
}
