#include "server/ctl/arguments.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>

#include "base/size.h"
#include "base/status.h"
#include "server/ctl/text.h"
#include "store/tree/digest.h"
#include "store/tree/path.h"

namespace blobcache::ctl {
namespace {

constexpr std::string_view kFiles = "files/";
constexpr std::array<std::string_view, 3> kOtherRoots = {"blobs", "origins", "volumes"};

absl::Status invalid(std::string_view why) {
  return base::error(absl::StatusCode::kInvalidArgument, why);
}

absl::Status check_text(std::string_view text) {
  if (text.empty()) return invalid("an empty path");
  if (!is_utf8(text)) return invalid("a path must be UTF-8");
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> parse_bytes(std::string_view option, std::string_view text) {
  if (text.starts_with('-')) return invalid(fmt::format("{}: {} is negative", option, text));
  absl::StatusOr<uint64_t> bytes = base::parse_size(text);
  if (!bytes.ok()) return base::annotate(bytes.status(), option);
  return bytes;
}

bool is_other_root(std::string_view name) {
  return std::find(kOtherRoots.begin(), kOtherRoots.end(), name) != kOtherRoots.end();
}

std::string_view without_leading_slash(std::string_view text) {
  return text.starts_with('/') ? text.substr(1) : text;
}

}  // namespace

absl::StatusOr<std::string> parse_path(std::string_view text) {
  BLOBCACHE_RETURN_IF_ERROR(check_text(text));
  if (text.starts_with("sha256:")) {
    BLOBCACHE_ASSIGN_OR_RETURN(const page::ObjectKey key, parse_digest(text));
    return fmt::format("blobs/{}", key.hex());
  }
  std::string_view path = without_leading_slash(text);
  while (path.ends_with('/')) path.remove_suffix(1);
  BLOBCACHE_RETURN_IF_ERROR(tree::split_path(path).status());
  return std::string(path);
}

absl::StatusOr<std::string> parse_name(std::string_view text) {
  if (text.empty()) return invalid("an empty name");
  BLOBCACHE_RETURN_IF_ERROR(check_text(text));
  const std::string_view path = without_leading_slash(text);
  if (path.empty() || path == "files" || path == kFiles) return invalid("an empty name");
  const std::string_view first = path.substr(0, path.find('/'));
  if (is_other_root(first)) {
    return invalid(
        fmt::format("names are bound under files/; write files/{} in full if that is what you mean",
                    escape(path)));
  }
  const std::string_view prefix = path.starts_with(kFiles) ? std::string_view() : kFiles;
  std::string name = fmt::format("{}{}", prefix, path);
  BLOBCACHE_RETURN_IF_ERROR(tree::split_path(name).status());
  return name;
}

absl::Status with_hint(const absl::Status& status, std::string_view path) {
  const std::string_view first = path.substr(0, path.find('/'));
  if (!absl::IsNotFound(status) || path.empty() || first == "files" || is_other_root(first)) {
    return status;
  }
  return base::error(status.code(), fmt::format("{} (names are under files/, as in files/{})",
                                                base::message(status), escape(path)));
}

absl::StatusOr<page::ObjectKey> parse_digest(std::string_view text) {
  return tree::parse_digest(text);
}

absl::StatusOr<ByteRange> parse_range(const std::optional<std::string>& offset,
                                      const std::optional<std::string>& length) {
  ByteRange range;
  if (offset) {
    BLOBCACHE_ASSIGN_OR_RETURN(range.offset, parse_bytes("--offset", *offset));
  }
  if (length) {
    BLOBCACHE_ASSIGN_OR_RETURN(range.length, parse_bytes("--length", *length));
  }
  if (range.length.value_or(0) > std::numeric_limits<uint64_t>::max() - range.offset) {
    return invalid("--offset and --length together overflow 64 bits");
  }
  return range;
}

absl::StatusOr<uint64_t> parse_rate(std::string_view text) {
  if (text == "unlimited") return 0;
  std::string_view size = text;
  if (size.ends_with("/s")) size.remove_suffix(2);
  const absl::StatusOr<uint64_t> rate = base::parse_size(size);
  if (!rate.ok()) return base::annotate(rate.status(), escape(text));
  return *rate;
}

absl::StatusOr<base::ListenAddress> parse_endpoint(std::string_view text) {
  if (text.empty()) return invalid("an empty address");
  if (text.starts_with('/')) return base::parse_listen_address(fmt::format("unix:{}", text));
  return base::parse_listen_address(text);
}

absl::StatusOr<std::string> absolute_path(std::string_view text,
                                          const std::filesystem::path& directory) {
  BLOBCACHE_RETURN_IF_ERROR(check_text(text));
  std::string path = (directory / text).lexically_normal().string();
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  return path;
}

}  // namespace blobcache::ctl
