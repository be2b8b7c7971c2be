#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "store/page/object.h"
#include "store/page/object_key.h"
#include "store/volume/image.h"

namespace blobcache::tree {

/// As many entries of one directory are listed. A listing is in memory as a whole while somebody
/// walks it, and comes from outside: this many take some 16 MiB, and `ls` of them a second or two.
inline constexpr size_t kMaxOriginEntries = size_t{1} << 16;

/// One entry of an origin. Value type.
struct OriginEntry {
  enum class Kind : uint8_t {
    kDirectory,
    kFile,     ///< read-only
    kImage,    ///< its bytes may change at any time, by us, too: see OriginFile::make_image
    kSymlink,  ///< a text, which is shown and never followed
  };
  std::string name;  ///< one component, as check_name() has it
  Kind kind = Kind::kFile;
  uint64_t size_bytes = 0;
  /// Of a symbolic link, as is_link_target() has it.
  std::string target;
  absl::Time modified = absl::InfinitePast();  ///< that is: the origin does not tell
  /// Of a file with a strong validator: the key that its version has, as open() gives it. Another
  /// version is another entry, and so is another size or time; look_up() and list() tell the same.
  std::optional<page::ObjectKey> version;
};

/// What an origin has under a path, open. Moves, never copies.
struct OriginFile {
  /// Makes the image over what the page store has of `version`. Called once, at once, and does not
  /// block.
  using MakeImage = absl::AnyInvocable<std::shared_ptr<volume::Image>(page::ObjectRef cached) &&>;

  /// Of a file, one version of it: another version has another key. Of an image, what it was when
  /// it was opened. As long as somebody holds `version.source` (the tree does while it is open)
  /// and the bytes are the same, another open() of the path gives the same key. The tree lets go of
  /// the source with the last holder, perhaps on a thread that must not block for long.
  page::CachedSpec version;
  /// The version has a strong validator, so its key is the same after a restart, and what the disk
  /// has of it may be used then. Otherwise the key is random, and nothing outlives the last holder.
  bool lasting = false;
  /// As OriginEntry has it: a version of another time is another node, also where look_up() told of
  /// no strong validator. Absent: the time tells nothing.
  std::optional<absl::Time> modified;
  /// Of an image; absent for a file. One image serves all who have it open. A new one may be made
  /// of the same `version` while the last operations of an earlier one come to their end.
  MakeImage make_image;
};

/// Whether an origin can be had. Value type.
struct OriginHealth {
  bool tried = false;     ///< false: nobody has asked it for anything yet
  bool reachable = true;  ///< as of the last try
  std::string trouble;    ///< the last error, for people, while it is not
  uint64_t connections = 0;
  uint64_t requests = 0;  ///< answered, since the start
  uint64_t bytes_read = 0;
  uint64_t bytes_written = 0;
  uint64_t retries = 0;
};

/// Somewhere outside that bytes come from, seen as origins/<name>/. Implementations live in net/;
/// the tree owns the interface and calls it.
///
/// Paths are relative to the origin, without a leading slash, made of components that check_name()
/// accepts; "" is its top. Calls may wait for the network, for as long as the origin's own limits
/// have it: UNAVAILABLE or DEADLINE_EXCEEDED then. NOT_FOUND for what is not there. What comes from
/// outside, such as names, is bounded by the implementation before it takes memory. Entries whose
/// name or target cannot be one the tree leaves out, and of two with one name the second.
///
/// No call follows a symbolic link that the origin has, be it the path's end or on its way: what
/// lies beyond it is not there.
///
/// Thread-safe.
class Origin {
 public:
  virtual ~Origin() = default;

  /// One component; no two origins have the same.
  [[nodiscard]] virtual const std::string& name() const = 0;
  /// For people: type and address, without secrets.
  [[nodiscard]] virtual std::string description() const = 0;
  /// What kind of place it is, as the configuration calls it: one word.
  [[nodiscard]] virtual std::string type() const = 0;
  /// A URL by which other programs find what is at `path`: ASCII without blanks, and without
  /// secrets or a user's name. Whether anything is there is not asked. Waits for nothing.
  [[nodiscard]] virtual std::string url_of(std::string_view path) = 0;

  [[nodiscard]] virtual absl::StatusOr<OriginEntry> look_up(std::string_view path) = 0;
  /// Sorted by name, each name once. FAILED_PRECONDITION for a file, UNIMPLEMENTED where the origin
  /// cannot list, RESOURCE_EXHAUSTED for more than kMaxOriginEntries.
  [[nodiscard]] virtual absl::StatusOr<std::vector<OriginEntry>> list(std::string_view path) = 0;
  /// FAILED_PRECONDITION for a directory. The version that look_up() tells of now.
  [[nodiscard]] virtual absl::StatusOr<OriginFile> open(std::string_view path) = 0;

  /// Does not wait for anything.
  [[nodiscard]] virtual OriginHealth health() const = 0;

  /// The daemon ends: calls that wait, and later ones, fail with CANCELLED soon. What is open fails
  /// after a grace of seconds, with UNAVAILABLE, if it was not let go before. For an origin whose
  /// calls never wait there is nothing to do.
  virtual void stop() {}
};

}  // namespace blobcache::tree
