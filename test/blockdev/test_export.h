#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "blockdev/impl/device.h"
#include "blockdev/impl/export_directory.h"
#include "blockdev/impl/nbd_session.h"
#include "store/page/object.h"
#include "store/page/page_store.h"
#include "test/blockdev/raw_client.h"

namespace blobcache::blockdev {

/// A directory that goes away with its content.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// What byte `offset` of every test object is: no page is like another.
[[nodiscard]] char pattern_at(uint64_t offset);
[[nodiscard]] std::string pattern(uint64_t offset, uint64_t length);

/// A page store in a directory of its own with one object, of `size_bytes` of the pattern.
class TestStore {
 public:
  explicit TestStore(uint64_t size_bytes) : TestStore(pattern(0, size_bytes)) {}
  /// With this content instead.
  explicit TestStore(const std::string& content);
  /// Brings all of the object into RAM.
  void warm();
  [[nodiscard]] const page::ObjectRef& object() const { return object_; }
  [[nodiscard]] page::PageStore& store() { return *store_; }

 private:
  TempDir dir_;
  std::unique_ptr<page::PageStore> store_;
  page::ObjectRef object_;
};

/// An object whose reads are all misses that finish when the test says so. Thread-safe.
class GatedObject : public page::Object {
 public:
  explicit GatedObject(page::ObjectRef inner) : inner_(std::move(inner)) {}

  const page::ObjectKey& key() const override { return inner_->key(); }
  uint64_t size_bytes() const override { return inner_->size_bytes(); }
  bool try_read(uint64_t offset, uint64_t length, page::PinnedRange& range) override;
  page::PendingRead read(uint64_t offset, uint64_t length, ReadDone done) override;
  page::PendingRead map(uint64_t offset, uint64_t length, size_t max_runs, MapDone done) override {
    return inner_->map(offset, length, max_runs, std::move(done));
  }
  absl::StatusOr<page::Residency> residency() override { return inner_->residency(); }
  absl::StatusOr<page::LentFile> lend_file() override { return inner_->lend_file(); }

  /// Ranges below this offset are hits.
  void open_below(uint64_t offset);
  /// Waits until `count` reads are waiting.
  void wait_for(size_t count);
  [[nodiscard]] size_t waiting();
  /// Finishes the waiting read number `index` with its bytes, or with an error.
  void release(size_t index = 0);
  void fail(const absl::Status& status, size_t index = 0);

 private:
  struct Waiting {
    uint64_t offset = 0;
    uint64_t length = 0;
    ReadDone done;
  };
  Waiting take(size_t index);

  const page::ObjectRef inner_;
  absl::Mutex mutex_;
  uint64_t open_below_ ABSL_GUARDED_BY(mutex_) = 0;
  std::deque<Waiting> waiting_ ABSL_GUARDED_BY(mutex_);
};

/// One export, "disk" (also the default), and one session that serves it on a socket pair.
class TestSession : private ExportDirectory {
 public:
  explicit TestSession(page::ObjectRef object, const NbdSessionOptions& options = default_options(),
                       uint64_t copy_bytes = NbdShared::kCopyBytes);
  explicit TestSession(DeviceRef device, const NbdSessionOptions& options = default_options(),
                       uint64_t copy_bytes = NbdShared::kCopyBytes);
  ~TestSession() override;

  static NbdSessionOptions default_options();

  [[nodiscard]] RawClient& client() { return *client_; }
  void close_client() { client_.reset(); }
  void stop() { session_->stop(); }
  /// Waits for the session to end of itself.
  void join();
  [[nodiscard]] const NbdCounters& counters() const { return shared_.counters; }
  /// What is left of the memory for what clients write.
  [[nodiscard]] uint64_t payload_bytes_left() const { return shared_.payloads.left(); }

 private:
  absl::StatusOr<OpenExport> open(std::string_view name) override;
  absl::StatusOr<ExportList> list(size_t limit) override;

  const DeviceRef device_;
  NbdShared shared_;
  std::unique_ptr<NbdSession> session_;
  std::unique_ptr<RawClient> client_;
  std::thread thread_;
};

}  // namespace blobcache::blockdev
