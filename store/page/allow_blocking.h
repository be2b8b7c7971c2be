#pragma once

#include <utility>

namespace blobcache::page {

/// While it exists, its thread may wait for the disk: a read that the thread asks for and that
/// needs the disk may be done by it, and then is over, its callback called, when Object::read()
/// returns; within the callback it may not. For who would do nothing but wait: it saves waking the
/// ring's thread, and being woken by that. It does not wait for a source.
///
/// (After Chromium's ScopedAllowBlocking.) Scopes of one thread nest.
class AllowBlocking {
 public:
  explicit AllowBlocking(bool allow = true) : before_(std::exchange(flag(), allow)) {}
  ~AllowBlocking() { flag() = before_; }
  AllowBlocking(const AllowBlocking&) = delete;
  AllowBlocking& operator=(const AllowBlocking&) = delete;

  /// Whether this thread may.
  [[nodiscard]] static bool allowed() { return flag(); }

 private:
  static bool& flag() {
    static thread_local bool allowed = false;
    return allowed;
  }

  const bool before_;
};

}  // namespace blobcache::page
