import Glibc

/// Returns whether a tensor's name matches a shell pattern.
package func matches(_ name: String, glob: String) -> Bool {
    fnmatch(glob, name, 0) == 0
}
