#pragma once

#include <sys/stat.h>

#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "fusefs/impl/fuse.h"

namespace blobcache::fusefs {

// What an operation was called with, kept for when it goes on after libfuse's call has returned,
// which takes back what its pointers point to.

/// An argument that is a value.
template <typename Argument>
class KeptArgument {
 public:
  explicit KeptArgument(Argument value) : value_(value) {}
  [[nodiscard]] Argument get() { return value_; }

 private:
  Argument value_;
};

/// A name.
template <>
class KeptArgument<const char*> {
 public:
  explicit KeptArgument(const char* name) : name_(name) {}
  [[nodiscard]] const char* get() const { return name_.c_str(); }

 private:
  std::string name_;
};

/// What the kernel said of an open file, which may be nothing.
template <>
class KeptArgument<fuse_file_info*> {
 public:
  explicit KeptArgument(const fuse_file_info* file) {
    if (file != nullptr) file_ = *file;
  }
  [[nodiscard]] fuse_file_info* get() { return file_ ? &*file_ : nullptr; }

 private:
  std::optional<fuse_file_info> file_;
};

/// Attributes that are to be set.
template <>
class KeptArgument<struct stat*> {
 public:
  explicit KeptArgument(const struct stat* attributes) : attributes_(*attributes) {}
  [[nodiscard]] struct stat* get() { return &attributes_; }

 private:
  struct stat attributes_;
};

/// All of an operation's. Moves with what it keeps; get() of each is good as long as it stays where
/// it is.
template <typename... Arguments>
class KeptArguments {
 public:
  explicit KeptArguments(Arguments... arguments) : kept_(KeptArgument<Arguments>(arguments)...) {}

  /// Calls `function` with them.
  template <typename Function>
  void apply(const Function& function) {
    std::apply([&function](auto&... kept) { function(kept.get()...); }, kept_);
  }

 private:
  std::tuple<KeptArgument<Arguments>...> kept_;
};

}  // namespace blobcache::fusefs
