/// Something in Python that a pickle names: a class or function that loading it with Python would import, and mostly call.
///
/// Here it is a label, whatever it is.
public struct PickleGlobal: Sendable, Hashable {
    /// What is to be thought of a name.
    public enum Kind: String, Sendable {
        /// A part of tensors or of plain data, which torch too loads without running foreign code.
        case known
        /// Anything else: a class of a training framework, of the writer's own code, or worse.
        case unknown
        /// Runs programs, evaluates code, opens files or connections, or leads to what does.
        case dangerous
    }

    /// The module and the name in it, with a dot between them: `collections.OrderedDict`.
    public let name: String
    /// What is to be thought of it.
    ///
    /// No list of dangerous names is complete: that a pickle has none of them does not make it safe to load with Python.
    public let kind: Kind

    init(module: String, name: String) {
        self.name = module + "." + name
        let isKnown = Self.known[module]?.contains(name) ?? false
        kind = isKnown ? .known : Self.isDangerous(module, name) ? .dangerous : .unknown
    }

    /// What the pickles of one file name, each name once, sorted.
    ///
    /// - Throws: ``CheckpointError`` when there are more names than anybody reads.
    static func all(in graphs: [PickleGraph], _ path: String) throws(CheckpointError) -> [PickleGlobal] {
        // Names first: there may be a million of the same.
        var names: Set<[ArraySlice<UInt8>]> = []
        for graph in graphs {
            for global in graph.globals {
                names.insert([graph.pickle[global.module], graph.pickle[global.name]])
                guard names.count <= 10_000 else {
                    throw CheckpointError(.malformed, path: path, "the pickle names more than 10000 globals")
                }
            }
        }
        let globals = names.map { parts in
            PickleGlobal(
                module: String(decoding: parts[0], as: UTF8.self), name: String(decoding: parts[1], as: UTF8.self))
        }
        return globals.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
    }

    // MARK: The lists

    /// By module.
    private static let known: [String: Set<String>] = [
        "torch._utils": [
            "_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter",
            "_rebuild_parameter_with_state", "_rebuild_qtensor", "_rebuild_sparse_tensor",
            "_rebuild_meta_tensor_no_storage", "_rebuild_nested_tensor", "_rebuild_wrapper_subclass",
        ],
        "torch._tensor": ["_rebuild_from_type_v2", "Tensor"],
        "torch": Set(TorchTypes.storages.keys).union(TorchTypes.dtypes.keys).union([
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

    private static let plainTypes: Set<String> = [
        "set", "frozenset", "dict", "list", "tuple", "object", "int", "long", "float", "str", "unicode", "bytes",
        "bytearray", "complex", "bool", "slice", "range", "xrange", "NoneType",
    ]

    /// Modules whose functions run programs or code, reach files, memory or the network, or load further pickles; with all below them.
    private static let dangerousModules: Set<String> = [
        // Programs, files, memory.
        "os", "posix", "nt", "ntpath", "posixpath", "subprocess", "_posixsubprocess", "_winapi", "winreg", "sys",
        "shutil",
        "pty", "fcntl", "resource", "mmap", "commands", "popen2", "ctypes", "_ctypes", "cffi", "signal", "_signal",
        "atexit",
        "multiprocessing", "concurrent", "threading", "_thread", "asyncio", "platform", "sysconfig", "uuid", "getpass",
        "io",
        "_io", "tempfile", "fileinput", "linecache", "zipfile", "tarfile", "gzip", "bz2", "lzma", "sqlite3", "dbm",
        "shelve",
        "codecs.open", "logging.FileHandler", "logging.config", "logging.handlers",
        // The network.
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
        "functools.reduce", "itertools.starmap",
        // Further pickles, and what evaluates text.
        "pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "jsonpickle", "yaml", "numpy.f2py",
        "numpy.distutils", "numpy.testing", "numpy.load", "numpy.lib.npyio", "numpy.lib._npyio_impl", "pandas.eval",
        "pandas.io", "pandas.read_pickle", "torch.load", "torch.save", "torch.hub", "torch.jit", "torch.package",
        "torch.ops",
        "torch.classes", "torch.serialization", "torch.storage._load_from_bytes", "torch.multiprocessing",
        "torch.distributed.run", "torch.distributed.launcher", "torch.distributed.elastic", "torch.distributed.rpc",
        "torch._dynamo", "torch._inductor", "torch.fx.graph_module", "torch.utils._config_module",
        "torch.utils.bottleneck", "torch.utils.collect_env", "torch.utils.cpp_extension", "torch.utils.model_zoo",
    ]

    /// Plain data in modules that are not.
    private static let harmless: Set<String> = [
        "types.SimpleNamespace", "types.MappingProxyType", "uuid.UUID", "uuid.SafeUUID", "io.BytesIO", "_io.BytesIO",
        "io.StringIO", "_io.StringIO", "signal.Signals",
    ]

    /// Names that lead from anything to anything, in Python's builtins or on the way through another name.
    private static let dangerousNames: Set<String> = [
        "eval", "exec", "execfile", "compile", "open", "file", "input", "raw_input", "breakpoint", "getattr", "setattr",
        "delattr", "globals", "locals", "vars", "apply", "reduce", "system", "popen", "spawn", "load", "loads", "run",
    ]

    private static func isDangerous(_ module: String, _ name: String) -> Bool {
        let full = module + "." + name
        if harmless.contains(full) { return false }
        let steps = name.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
        if steps.contains(where: { $0.hasPrefix("__") }) { return true }
        if ["builtins", "__builtin__", "__main__"].contains(module) || steps.count > 1,
            steps.contains(where: { dangerousNames.contains($0) || dangerousModules.contains($0) })
        {
            return true
        }
        let path = full.split(separator: ".", omittingEmptySubsequences: false)
        return path.indices.contains { dangerousModules.contains(path[...$0].joined(separator: ".")) }
    }
}

/// Torch's names for the types of elements.
enum TorchTypes {
    /// Classes of typed storages, and the types of their elements.
    static let storages: [String: DType] = [
        "DoubleStorage": .f64, "FloatStorage": .f32, "HalfStorage": .f16, "BFloat16Storage": .bf16, "ByteStorage": .u8,
        "CharStorage": .i8, "ShortStorage": .i16, "IntStorage": .i32, "LongStorage": .i64, "BoolStorage": .bool,
        "ComplexFloatStorage": .c64, "ComplexDoubleStorage": .c128, "QInt8Storage": .qi8, "QUInt8Storage": .qu8,
        "QInt32Storage": .qi32,
    ]

    /// `torch.float32` and its like, without the module.
    static let dtypes: [String: DType] = [
        "float64": .f64, "float32": .f32, "float16": .f16, "bfloat16": .bf16, "uint8": .u8, "int8": .i8, "int16": .i16,
        "int32": .i32, "int64": .i64, "bool": .bool, "uint16": .u16, "uint32": .u32, "uint64": .u64, "complex32": .c32,
        "bcomplex32": .bc32, "complex64": .c64, "complex128": .c128, "float8_e4m3fn": .f8E4M3, "float8_e5m2": .f8E5M2,
        "float8_e4m3fnuz": .f8E4M3FNUZ, "float8_e5m2fnuz": .f8E5M2FNUZ, "float8_e8m0fnu": .f8E8M0,
        "float4_e2m1fn_x2": .f4E2M1, "qint8": .qi8, "quint8": .qu8, "qint32": .qi32,
    ]
}
