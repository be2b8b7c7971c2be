#pragma once

#include <filesystem>

namespace blobcache::base {

/// One spelling a place: absolute, and without links where they can be read, "..", "." and a slash
/// at its end. What is not there, or cannot be looked at, stays as it is written.
///
/// Links are read, and nothing else is asked of any file: not even of the last one, which may be
/// where a file system is mounted that does not answer, as a mount of our own does not while it is
/// handed over. (std::filesystem::weakly_canonical() looks at all of them.)
[[nodiscard]] std::filesystem::path resolve_links(const std::filesystem::path& path);

}  // namespace blobcache::base
