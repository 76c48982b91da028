/// The opcodes of Python's pickles, protocols 0 to 5, by their codes (CPython, Lib/pickletools.py).
enum PickleOpcode: UInt8 {
    case mark = 0x28
    case stop = 0x2E
    case pop = 0x30
    case popMark = 0x31
    case duplicate = 0x32
    case put = 0x70
    case put1 = 0x71
    case put4 = 0x72
    case get = 0x67
    case get1 = 0x68
    case get4 = 0x6A

    case none = 0x4E
    case integerLine = 0x49
    case integer4 = 0x4A
    case integer1 = 0x4B
    case integer2 = 0x4D
    case longLine = 0x4C
    case floatLine = 0x46
    case float8 = 0x47
    /// A Python 2 string: bytes that are used as text.
    case stringLine = 0x53
    case bytesAsText4 = 0x54
    case bytesAsText1 = 0x55
    case textLine = 0x56
    case text4 = 0x58

    case emptyTuple = 0x29
    case tuple = 0x74
    case emptyList = 0x5D
    case list = 0x6C
    case append = 0x61
    case appends = 0x65
    case emptyDictionary = 0x7D
    case dictionary = 0x64
    case setItem = 0x73
    case setItems = 0x75

    case global = 0x63
    case reduce = 0x52
    case build = 0x62
    case instance = 0x69
    case object = 0x6F
    case persistentIdentifierLine = 0x50
    case persistentIdentifier = 0x51

    // Protocol 2.
    case `protocol` = 0x80
    case newObject = 0x81
    case extension1 = 0x82
    case extension2 = 0x83
    case extension4 = 0x84
    case tuple1 = 0x85
    case tuple2 = 0x86
    case tuple3 = 0x87
    case `true` = 0x88
    case `false` = 0x89
    case long1 = 0x8A
    case long4 = 0x8B

    // Protocol 3.
    case bytes4 = 0x42
    case bytes1 = 0x43

    // Protocol 4.
    case text1 = 0x8C
    case text8 = 0x8D
    case bytes8 = 0x8E
    case emptySet = 0x8F
    case addItems = 0x90
    case frozenSet = 0x91
    case newObjectWithKeywords = 0x92
    case stackGlobal = 0x93
    case memoize = 0x94
    case frame = 0x95

    // Protocol 5.
    case byteArray8 = 0x96
    case nextBuffer = 0x97
    case readOnlyBuffer = 0x98
}
