#include "test/blockdev/test_export.h"

#include <doctest/doctest.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <algorithm>

#include "blockdev/impl/object_device.h"

namespace blobcache::blockdev {

TempDir::TempDir() {
  std::string name = (std::filesystem::temp_directory_path() / "blockdev-test-XXXXXX").string();
  REQUIRE(::mkdtemp(name.data()) != nullptr);
  path_ = name;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

char pattern_at(uint64_t offset) {
  const uint64_t page = offset >> 12;
  return static_cast<char>((offset * 31 + page * 131 + (page >> 8) * 17) & 0xff);
}

std::string pattern(uint64_t offset, uint64_t length) {
  std::string bytes(length, '\0');
  for (uint64_t i = 0; i < length; ++i) bytes[i] = pattern_at(offset + i);
  return bytes;
}

TestStore::TestStore(const std::string& content) {
  page::PageStoreOptions options;
  options.path = dir_.path();
  options.memory_bytes = uint64_t{64} << 20;
  options.disk_bytes = uint64_t{256} << 20;
  auto store = page::PageStore::open(options);
  REQUIRE(store.ok());
  store_ = *std::move(store);
  auto writer = store_->create(page::Retention::kKept, content.size());
  REQUIRE(writer.ok());
  REQUIRE(
      (*writer)->append({reinterpret_cast<const std::byte*>(content.data()), content.size()}).ok());
  page::ObjectKey key;
  key.bytes.fill(7);
  auto sealed = (*writer)->seal(key, {.text = "test", .records = {}});
  REQUIRE(sealed.ok());
  (*writer)->keep();
  page::ObjectSpec spec;
  spec.key = key;
  spec.incarnation = sealed->incarnation;
  spec.size_bytes = sealed->size_bytes;
  spec.retention = page::Retention::kKept;
  spec.inline_map = sealed->inline_map;
  object_ = store_->attach(spec);
}

void TestStore::warm() {
  for (uint64_t at = 0; at < object_->size_bytes(); at += page::Object::kMaxRead) {
    const uint64_t length = std::min(page::Object::kMaxRead, object_->size_bytes() - at);
    REQUIRE(object_->read_wait(at, length).ok());
  }
}

bool GatedObject::try_read(uint64_t offset, uint64_t length, page::PinnedRange& range) {
  {
    absl::MutexLock lock(&mutex_);
    if (offset + length > open_below_) return false;
  }
  return inner_->try_read(offset, length, range);
}

page::PendingRead GatedObject::read(uint64_t offset, uint64_t length, ReadDone done) {
  absl::MutexLock lock(&mutex_);
  waiting_.push_back({offset, length, std::move(done)});
  return {};
}

void GatedObject::open_below(uint64_t offset) {
  absl::MutexLock lock(&mutex_);
  open_below_ = offset;
}

void GatedObject::wait_for(size_t count) {
  absl::MutexLock lock(&mutex_);
  const auto enough = [this, count]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return waiting_.size() >= count;
  };
  REQUIRE(mutex_.AwaitWithTimeout(absl::Condition(&enough), absl::Seconds(20)));
}

size_t GatedObject::waiting() {
  absl::MutexLock lock(&mutex_);
  return waiting_.size();
}

GatedObject::Waiting GatedObject::take(size_t index) {
  absl::MutexLock lock(&mutex_);
  REQUIRE(index < waiting_.size());
  const auto at = waiting_.begin() + static_cast<std::ptrdiff_t>(index);
  Waiting taken = std::move(*at);
  waiting_.erase(at);
  return taken;
}

void GatedObject::release(size_t index) {
  Waiting taken = take(index);
  inner_->read(taken.offset, taken.length, std::move(taken.done));
}

void GatedObject::fail(const absl::Status& status, size_t index) { take(index).done(status); }

NbdSessionOptions TestSession::default_options() {
  return {.limits = {.max_requests = 64},
          .handshake_timeout = absl::Seconds(20),
          .stall_copy = absl::Seconds(20),
          .stall_cut = absl::Seconds(60)};
}

TestSession::TestSession(page::ObjectRef object, const NbdSessionOptions& options,
                         uint64_t copy_bytes)
    : TestSession(std::make_shared<ObjectDevice>(std::move(object)), options, copy_bytes) {}

TestSession::TestSession(DeviceRef device, const NbdSessionOptions& options, uint64_t copy_bytes)
    : device_(std::move(device)), shared_(2, copy_bytes) {
  int fds[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
  client_ = std::make_unique<RawClient>(base::UniqueFd(fds[0]));
  auto session = NbdSession::create(base::UniqueFd(fds[1]), "test", options, *this, shared_);
  REQUIRE(session.ok());
  session_ = *std::move(session);
  thread_ = std::thread([this] { session_->run(); });
}

TestSession::~TestSession() {
  session_->stop();
  join();
}

void TestSession::join() {
  if (thread_.joinable()) thread_.join();
}

absl::StatusOr<OpenExport> TestSession::open(std::string_view name) {
  if (!name.empty() && name != "disk") return absl::NotFoundError("no such export");
  return OpenExport{"disk", device_};
}

absl::StatusOr<ExportList> TestSession::list(size_t limit) {
  std::vector<Export> all{{"disk", device_->size_bytes()}, {"other disk", 1}};
  all.resize(std::min(limit, all.size()));
  return ExportList{std::move(all), {}};
}

}  // namespace blobcache::blockdev
