#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "store/page/object.h"
#include "store/page/source.h"
#include "store/tree/origin.h"
#include "store/volume/image.h"

namespace blobcache::tree {

/// An origin in memory that a test changes, breaks and holds up. Thread-safe.
class FakeOrigin final : public Origin {
 public:
  explicit FakeOrigin(std::string name) : name_(std::move(name)) {}

  // What it has. A directory is there as soon as something is in it.
  void put(std::string_view path, std::string content, bool lasting = true)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void put_image(std::string_view path, std::string content) ABSL_LOCKS_EXCLUDED(mutex_);
  void put_link(std::string_view path, std::string target) ABSL_LOCKS_EXCLUDED(mutex_);
  void remove(std::string_view path) ABSL_LOCKS_EXCLUDED(mutex_);
  /// Lists of the directory at `path` exactly this from now on, whatever it has.
  void list_as(std::string_view path, std::vector<OriginEntry> entries) ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] std::string content(std::string_view path) const ABSL_LOCKS_EXCLUDED(mutex_);

  /// Calls, and fetches that begin, fail with this until it is OK.
  void set_error(absl::Status error) ABSL_LOCKS_EXCLUDED(mutex_);
  /// Calls that come wait until release() or stop().
  void hold() ABSL_LOCKS_EXCLUDED(mutex_);
  void release() ABSL_LOCKS_EXCLUDED(mutex_);
  /// Returns when so many calls are held.
  void wait_held(int calls) const ABSL_LOCKS_EXCLUDED(mutex_);

  std::atomic<int> look_ups{0};
  std::atomic<int> lists{0};
  std::atomic<int> opens{0};
  std::atomic<uint64_t> fetched_bytes{0};
  /// Sources that are alive: sessions.
  std::atomic<int> sessions{0};
  std::atomic<int> images{0};

  // Origin
  [[nodiscard]] const std::string& name() const override { return name_; }
  [[nodiscard]] std::string description() const override { return "fake"; }
  [[nodiscard]] std::string type() const override { return "fake"; }
  [[nodiscard]] std::string url_of(std::string_view path) override {
    return "fake://" + name_ + "/" + std::string(path);
  }
  [[nodiscard]] absl::StatusOr<OriginEntry> look_up(std::string_view path) override;
  [[nodiscard]] absl::StatusOr<std::vector<OriginEntry>> list(std::string_view path) override;
  [[nodiscard]] absl::StatusOr<OriginFile> open(std::string_view path) override;
  [[nodiscard]] OriginHealth health() const override;
  void stop() override ABSL_LOCKS_EXCLUDED(mutex_);

  // For its sources and images.
  [[nodiscard]] absl::Status error() const ABSL_LOCKS_EXCLUDED(mutex_);
  void write(std::string_view path, uint64_t offset, std::string_view bytes)
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Thing {
    OriginEntry::Kind kind = OriginEntry::Kind::kFile;
    std::string content;
    bool lasting = true;
    page::ObjectKey key;  ///< of a lasting one
    std::weak_ptr<page::Source> session;
    page::ObjectKey session_key;
  };

  /// Waits while calls are held, then tells whether they fail.
  [[nodiscard]] absl::Status enter() const ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] static OriginEntry entry_of(std::string_view name, const Thing& thing);

  const std::string name_;
  mutable absl::Mutex mutex_;
  std::map<std::string, Thing, std::less<>> things_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::vector<OriginEntry>, std::less<>> listings_ ABSL_GUARDED_BY(mutex_);
  absl::Status error_ ABSL_GUARDED_BY(mutex_);
  bool held_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  mutable int held_calls_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t next_key_ ABSL_GUARDED_BY(mutex_) = 1;
};

}  // namespace blobcache::tree
