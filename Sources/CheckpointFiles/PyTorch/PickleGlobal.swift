import Bytes

/// A Python class or function that a pickle names.
///
/// When Python loads the pickle, it imports the global and usually calls it. This library only reads the name.
public struct PickleGlobal: Sendable, Hashable {
    /// A classification of globals by the risk of loading them with Python.
    public enum Kind: String, Sendable {
        /// A class or function that represents tensors or plain data, and does not run arbitrary code.
        case known
        /// Any other global, such as a class from a training framework or from the author's own code.
        case unknown
        /// A global that runs programs, evaluates code, opens files or network connections, or gives access to another
        /// global that does.
        case dangerous
    }

    /// The global's module and name, joined by a dot, such as `collections.OrderedDict`.
    public let name: String
    /// The risk of loading the global with Python.
    ///
    /// No list of dangerous globals is complete, so a pickle without any is not necessarily safe to load with Python.
    public let kind: Kind

    init(module: String, name: String) {
        self.name = module + "." + name
        let isKnown = Self.known[ByteString(module)]?.contains(ByteString(name)) ?? false
        kind = isKnown ? .known : Self.isDangerous(module, name) ? .dangerous : .unknown
    }

    // MARK: Classification

    /// The names of the known globals, keyed by module.
    private static let known: [ByteString: Set<ByteString>] = [
        "torch._utils": [
            "_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter",
            "_rebuild_parameter_with_state", "_rebuild_qtensor", "_rebuild_sparse_tensor",
            "_rebuild_meta_tensor_no_storage", "_rebuild_nested_tensor", "_rebuild_wrapper_subclass",
        ],
        "torch._tensor": ["_rebuild_from_type_v2", "Tensor"],
        "torch": Set(TorchTypes.storages.keys).union(TorchTypes.packedStorages).union(TorchTypes.dtypes.keys).union([
            "Tensor", "Size", "device", "strided", "sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc",
            "per_tensor_affine", "per_channel_affine", "per_channel_affine_float_qparams", "contiguous_format",
            "channels_last", "preserve_format",
        ]),
        "torch.cuda": Set(TorchTypes.storages.keys),
        "torch.storage": ["UntypedStorage", "TypedStorage"],
        "torch.serialization": ["_get_layout"],
        "torch.nn.parameter": ["Parameter", "Buffer"],
        "collections": ["OrderedDict", "defaultdict", "Counter", "deque"],
        "_codecs": ["encode"],
        "builtins": plainTypes, "__builtin__": plainTypes,
        "argparse": ["Namespace"],
        "datetime": ["datetime", "date", "time", "timedelta", "timezone"],
        "pathlib": ["Path", "PosixPath", "PurePath", "PurePosixPath", "WindowsPath", "PureWindowsPath"],
        "numpy": ["dtype", "ndarray"],
        "numpy.core.multiarray": ["scalar", "_reconstruct"], "numpy._core.multiarray": ["scalar", "_reconstruct"],
    ]

    private static let plainTypes: Set<ByteString> = [
        "set", "frozenset", "dict", "list", "tuple", "object", "int", "long", "float", "str", "unicode", "bytes",
        "bytearray", "complex", "bool", "slice", "range", "xrange", "NoneType",
    ]

    /// The modules and functions that can run programs or code, access files, memory or the network, or load other
    /// pickles.
    ///
    /// An entry for a module includes its submodules.
    private static let dangerousModules: Set<ByteString> = [
        // Programs, files and memory.
        "os", "posix", "nt", "ntpath", "posixpath", "subprocess", "_posixsubprocess", "_winapi", "winreg", "sys",
        "shutil",
        "pty", "fcntl", "resource", "mmap", "commands", "popen2", "ctypes", "_ctypes", "cffi", "signal", "_signal",
        "atexit",
        "multiprocessing", "concurrent", "threading", "_thread", "asyncio", "platform", "sysconfig", "uuid", "getpass",
        "io",
        "_io", "tempfile", "fileinput", "linecache", "zipfile", "tarfile", "gzip", "bz2", "lzma", "sqlite3", "dbm",
        "shelve",
        "codecs.open", "logging.FileHandler", "logging.config", "logging.handlers",
        // Network.
        "socket", "_socket", "socketserver", "ssl", "select", "selectors", "http", "urllib", "urllib2", "httplib",
        "requests",
        "httpx", "aiohttp", "ftplib", "telnetlib", "smtplib", "smtpd", "imaplib", "poplib", "nntplib", "xmlrpc", "cgi",
        "wsgiref", "webbrowser", "antigravity",
        // Code.
        "runpy", "code", "codeop", "compileall", "py_compile", "importlib", "imp", "_imp", "zipimport", "pkgutil",
        "pip",
        "ensurepip", "setuptools", "distutils", "site", "venv", "pdb", "bdb", "doctest", "timeit", "trace", "profile",
        "cProfile", "pstats", "pydoc", "idlelib", "lib2to3", "rlcompleter", "types", "inspect", "gc", "operator",
        "_operator",
        "functools.reduce", "itertools.starmap", "typing.get_type_hints", "sympy", "mailcap", "tkinter", "test",
        "_pyrepl",
        "_osx_support", "_aix_support", "_xxsubinterpreters", "_interpreters", "_testcapi", "_frozen_importlib",
        "_frozen_importlib_external", "pkg_resources", "psutil", "pexpect", "fsspec",
        // Serialisation, and parts of numpy, pandas and torch that access files or run code.
        "pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "jsonpickle", "yaml", "numpy.f2py",
        "numpy.distutils", "numpy.testing", "numpy.load", "numpy.lib.npyio", "numpy.lib._npyio_impl", "pandas.eval",
        "pandas.io", "pandas.read_pickle", "pandas.core.computation", "numpy.memmap", "numpy.save", "numpy.savetxt",
        "numpy.fromfile", "numpy.loadtxt", "numpy.genfromtxt", "numpy.ctypeslib", "numpy.lib._datasource", "torch.load",
        "torch.save", "torch.hub", "torch.jit", "torch.package",
        "torch.ops",
        "torch.classes", "torch.serialization", "torch.storage._load_from_bytes", "torch.multiprocessing",
        "torch.distributed.run", "torch.distributed.launcher", "torch.distributed.elastic", "torch.distributed.rpc",
        "torch._dynamo", "torch._inductor", "torch.fx.graph_module", "torch.fx.experimental", "torch.testing",
        "torch.export",
        "torch.from_file", "torch.utils.benchmark", "torch.utils.data.datapipes", "torch.utils._config_module",
        "torch.utils.bottleneck", "torch.utils.collect_env", "torch.utils.cpp_extension", "torch.utils.model_zoo",
    ]

    /// The harmless globals in dangerous modules.
    private static let harmless: Set<ByteString> = [
        "types.SimpleNamespace", "types.MappingProxyType", "uuid.UUID", "uuid.SafeUUID", "io.BytesIO", "_io.BytesIO",
        "io.StringIO", "_io.StringIO", "signal.Signals", "operator.itemgetter", "operator.or_",
    ]

    /// The names that give access to arbitrary objects or code, as builtins or as components of dotted names.
    private static let dangerousNames: Set<ByteString> = [
        "eval", "exec", "execfile", "compile", "open", "file", "input", "raw_input", "breakpoint", "getattr", "setattr",
        "delattr", "globals", "locals", "vars", "apply", "reduce", "system", "popen", "spawn", "load", "loads", "run",
    ]

    private static func isDangerous(_ module: String, _ name: String) -> Bool {
        let full = module + "." + name
        if harmless.contains(ByteString(full)) { return false }
        let steps = parts(of: name)
        // A dotted name can reach special attributes that lead to arbitrary objects, and methods that open files, which
        // even the known modules have.
        if steps.count > 1,
            known[ByteString(module)] != nil || steps.contains(where: { $0.text.dropping(prefix: "__") != nil })
        {
            return true
        }
        if name.dropping(prefix: "__") != nil, name.dropping(suffix: "__") != nil { return true }
        if (["builtins", "__builtin__", "__main__"] as [ByteString]).contains(ByteString(module)) || steps.count > 1,
            steps.contains(where: { dangerousNames.contains($0) || dangerousModules.contains($0) })
        {
            return true
        }
        // No entry in the list has more than five parts, so the rest of a longer name does not need to be split.
        let path = parts(of: full, maxSplits: 5)
        return path.indices.contains {
            dangerousModules.contains(ByteString(path[...$0].map(\.text).joined(separator: ".")))
        }
    }

    private static func parts(of name: String, maxSplits: Int = .max) -> [ByteString] {
        name.utf8.split(separator: UInt8(ascii: "."), maxSplits: maxSplits, omittingEmptySubsequences: false)
            .map { ByteString(Substring($0)) }
    }
}

/// The distinct globals in the pickles of a file.
struct PickleNames {
    private struct Name: Hashable {
        var module, name: ByteString

        init(module: String, name: String) { (self.module, self.name) = (ByteString(module), ByteString(name)) }
    }

    private var names: Set<Name> = []
    /// The number of `getattr` calls that look up a constant name in a global.
    private var plainGetattr = 0
    /// The number of other `getattr` calls.
    private var otherGetattr = 0

    /// Adds the globals that a pickle names.
    ///
    /// - Throws: `MalformedInput` if the pickles name more than 10,000 distinct globals, or if one pickle spells out
    ///   globals in more than 100,000 places.
    mutating func insert(_ graph: PickleGraph) throws(MalformedInput) {
        // Skip repeated places before decoding any text, because a pickle can name the same global a million times.
        var places: Set<PickleGraph.Global> = []
        for global in graph.globals where places.insert(global).inserted {
            names.insert(Name(module: graph.text(global.module), name: graph.text(global.name)))
            guard names.count <= 10_000, places.count <= 100_000 else {
                throw MalformedInput("the pickle names more than 10000 globals", at: global.module.lowerBound)
            }
        }
        // In protocols 0 to 3, Python pickles a nested class or a method as getattr(outer, "inner").
        guard names.contains(where: { $0.name == "getattr" }) else { return }
        for object in graph.objects {
            guard case .global(let callable) = graph.content(object.callable),
                graph.text(graph.globals[callable].name) == "getattr"
            else { continue }
            var cursor = graph.cursor(at: object.arguments)
            if let outer = graph.next(&cursor)?.value, case .global(let number) = graph.content(outer),
                let inner = graph.next(&cursor)?.value, case .text(let range) = graph.content(inner)
            {
                let global = graph.globals[number]
                plainGetattr += 1
                names.insert(
                    Name(module: graph.text(global.module), name: graph.text(global.name) + "." + graph.text(range)))
                guard names.count <= 10_000 else {
                    throw MalformedInput("the pickle names more than 10000 globals", at: range.lowerBound)
                }
            } else {
                otherGetattr += 1
            }
        }
    }

    /// The globals, sorted by name; `getattr` is left out if every call to it looks up a constant name in a global.
    var globals: [PickleGlobal] {
        let isPlain = plainGetattr > 0 && otherGetattr == 0
        return names.compactMap { name in
            let isGetattr = ["builtins", "__builtin__"].contains(name.module) && name.name == "getattr"
            return isPlain && isGetattr ? nil : PickleGlobal(module: name.module.text, name: name.name.text)
        }.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
    }
}

/// The names that torch uses for dtypes and storage classes.
enum TorchTypes {
    /// The dtypes of the typed storage classes, keyed by class name.
    static let storages: [ByteString: DType] = [
        "DoubleStorage": .f64, "FloatStorage": .f32, "HalfStorage": .f16, "BFloat16Storage": .bf16, "ByteStorage": .u8,
        "CharStorage": .i8, "ShortStorage": .i16, "IntStorage": .i32, "LongStorage": .i64, "BoolStorage": .bool,
        "ComplexFloatStorage": .c64, "ComplexDoubleStorage": .c128, "QInt8Storage": .qi8, "QUInt8Storage": .qu8,
        "QInt32Storage": .qi32,
    ]

    /// The storage classes that pack several elements into a byte; the pickle gives their sizes in bytes.
    static let packedStorages: Set<ByteString> = ["QUInt4x2Storage", "QUInt2x4Storage"]

    /// The dtypes, keyed by torch's name without the module, such as `float32`.
    static let dtypes: [ByteString: DType] = [
        "float64": .f64, "float32": .f32, "float16": .f16, "bfloat16": .bf16, "uint8": .u8, "int8": .i8, "int16": .i16,
        "int32": .i32, "int64": .i64, "bool": .bool, "uint16": .u16, "uint32": .u32, "uint64": .u64, "complex32": .c32,
        "bcomplex32": .bc32, "complex64": .c64, "complex128": .c128, "float8_e4m3fn": .f8E4M3, "float8_e5m2": .f8E5M2,
        "float8_e4m3fnuz": .f8E4M3FNUZ, "float8_e5m2fnuz": .f8E5M2FNUZ, "float8_e8m0fnu": .f8E8M0,
        "float4_e2m1fn_x2": .f4E2M1, "qint8": .qi8, "quint8": .qu8, "qint32": .qi32,
    ]

    /// The names of the typed storage classes, keyed by dtype.
    static let storageNames = Dictionary(uniqueKeysWithValues: storages.map { ($1, $0.text) })

    /// torch's names for dtypes, without the module, keyed by dtype.
    static let names = Dictionary(uniqueKeysWithValues: dtypes.map { ($1, $0.text) })
}

extension DType {
    /// torch's name for the dtype without the module, such as `bfloat16`, or nil if torch does not have the dtype.
    public var torchName: String? { TorchTypes.names[self] }
}
