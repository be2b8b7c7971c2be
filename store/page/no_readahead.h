#pragma once

#include <utility>

namespace blobcache::page {

/// While it exists, what its thread reads says nothing of what will be read next: for who brings a
/// range as a whole, with as many reads under way as he wants. Scopes of one thread nest.
class NoReadahead {
 public:
  NoReadahead() : before_(std::exchange(flag(), true)) {}
  ~NoReadahead() { flag() = before_; }
  NoReadahead(const NoReadahead&) = delete;
  NoReadahead& operator=(const NoReadahead&) = delete;

  /// Whether one exists on this thread.
  [[nodiscard]] static bool is_set() { return flag(); }

 private:
  static bool& flag() {
    static thread_local bool set = false;
    return set;
  }

  const bool before_;
};

}  // namespace blobcache::page
