#include "test/store/tree/fake_origin.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/types/span.h"
#include "base/status.h"

namespace blobcache::tree {
namespace {

page::ObjectKey key_of(uint64_t number) {
  page::ObjectKey key;
  std::memcpy(key.bytes.data(), &number, sizeof(number));
  key.bytes.back() = 0x55;
  return key;
}

class NoFetch final : public page::Source::Fetch {
 public:
  void cancel() override {}
};

/// What one version holds, however the origin changes.
class FakeSource final : public page::Source {
 public:
  FakeSource(FakeOrigin& origin, std::string content)
      : origin_(origin), content_(std::move(content)) {
    ++origin_.sessions;
  }
  ~FakeSource() override { --origin_.sessions; }

  std::unique_ptr<Fetch> fetch(uint64_t offset, absl::Span<std::byte> into,
                               FetchDone done) override {
    const absl::Status error = origin_.error();
    if (error.ok()) {
      std::memcpy(into.data(), content_.data() + offset, into.size());
      origin_.fetched_bytes += into.size();
    }
    done(error);
    return std::make_unique<NoFetch>();
  }

 private:
  FakeOrigin& origin_;
  const std::string content_;
};

/// Writes go to the origin; reads come from there, too.
class FakeImage final : public volume::Image {
 public:
  FakeImage(FakeOrigin& origin, std::string path, page::ObjectRef cached)
      : origin_(origin), path_(std::move(path)), cached_(std::move(cached)) {
    ++origin_.images;
  }
  ~FakeImage() override { --origin_.images; }

  uint64_t size_bytes() const override { return cached_->size_bytes(); }
  uint64_t identity() const override { return 7; }
  std::string about() const override { return "a fake image"; }
  bool try_read(uint64_t /*offset*/, absl::Span<std::byte> /*into*/) override { return false; }
  void read(uint64_t offset, absl::Span<std::byte> into, volume::Done done) override {
    const std::string content = origin_.content(path_);
    std::memcpy(into.data(), content.data() + offset, into.size());
    done(origin_.error());
  }
  void write(uint64_t offset, absl::Span<const std::byte> bytes, bool /*fua*/,
             volume::Done done) override {
    const void* data = bytes.data();
    origin_.write(path_, offset, {static_cast<const char*>(data), bytes.size()});
    done(origin_.error());
  }
  void write_zeroes(uint64_t offset, uint64_t length, volume::ZeroFlags /*flags*/,
                    volume::Done done) override {
    origin_.write(path_, offset, std::string(length, '\0'));
    done(origin_.error());
  }
  void trim(uint64_t /*offset*/, uint64_t /*length*/, bool /*fua*/, volume::Done done) override {
    done(origin_.error());
  }
  void flush(volume::Done done) override { done(origin_.error()); }
  void map(uint64_t /*offset*/, uint64_t length, size_t /*max_runs*/,
           volume::MapDone done) override {
    done(std::vector<volume::Run>{{length, volume::Run::Kind::kData}});
  }

 private:
  FakeOrigin& origin_;
  const std::string path_;
  const page::ObjectRef cached_;
};

bool is_beneath(std::string_view path, std::string_view directory) {
  return directory.empty() || (path.size() > directory.size() && path.starts_with(directory) &&
                               path[directory.size()] == '/');
}

}  // namespace

void FakeOrigin::put(std::string_view path, std::string content, bool lasting) {
  const absl::MutexLock lock(&mutex_);
  Thing thing;
  thing.content = std::move(content);
  thing.lasting = lasting;
  thing.key = key_of(next_key_++);
  things_.insert_or_assign(std::string(path), std::move(thing));
}

void FakeOrigin::put_image(std::string_view path, std::string content) {
  put(path, std::move(content), false);
  const absl::MutexLock lock(&mutex_);
  things_.find(path)->second.kind = OriginEntry::Kind::kImage;
}

void FakeOrigin::put_link(std::string_view path, std::string target) {
  put(path, std::move(target), false);
  const absl::MutexLock lock(&mutex_);
  things_.find(path)->second.kind = OriginEntry::Kind::kSymlink;
}

void FakeOrigin::remove(std::string_view path) {
  const absl::MutexLock lock(&mutex_);
  things_.erase(things_.find(path));
}

void FakeOrigin::list_as(std::string_view path, std::vector<OriginEntry> entries) {
  const absl::MutexLock lock(&mutex_);
  listings_.insert_or_assign(std::string(path), std::move(entries));
}

std::string FakeOrigin::content(std::string_view path) const {
  const absl::MutexLock lock(&mutex_);
  return things_.find(path)->second.content;
}

void FakeOrigin::write(std::string_view path, uint64_t offset, std::string_view bytes) {
  const absl::MutexLock lock(&mutex_);
  things_.find(path)->second.content.replace(offset, bytes.size(), bytes);
}

void FakeOrigin::set_error(absl::Status error) {
  const absl::MutexLock lock(&mutex_);
  error_ = std::move(error);
}

absl::Status FakeOrigin::error() const {
  const absl::MutexLock lock(&mutex_);
  return error_;
}

void FakeOrigin::hold() {
  const absl::MutexLock lock(&mutex_);
  held_ = true;
}

void FakeOrigin::release() {
  const absl::MutexLock lock(&mutex_);
  held_ = false;
}

void FakeOrigin::wait_held(int calls) const {
  const auto enough = [this, calls]()
                          ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return held_calls_ >= calls; };
  const absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(&enough));
}

void FakeOrigin::stop() {
  const absl::MutexLock lock(&mutex_);
  stopped_ = true;
}

absl::Status FakeOrigin::enter() const {
  const auto goes_on = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return !held_ || stopped_; };
  const absl::MutexLock lock(&mutex_);
  ++held_calls_;
  mutex_.Await(absl::Condition(&goes_on));
  --held_calls_;
  return stopped_ ? absl::CancelledError("the origin ends") : error_;
}

OriginEntry FakeOrigin::entry_of(std::string_view name, const Thing& thing) {
  OriginEntry entry;
  entry.name = name;
  entry.kind = thing.kind;
  if (thing.kind == OriginEntry::Kind::kSymlink) entry.target = thing.content;
  entry.size_bytes = thing.content.size();
  entry.modified = absl::FromUnixSeconds(1'600'000'000);
  if (thing.lasting) entry.version = thing.key;
  return entry;
}

absl::StatusOr<OriginEntry> FakeOrigin::look_up(std::string_view path) {
  ++look_ups;
  BLOBCACHE_RETURN_IF_ERROR(enter());
  const absl::MutexLock lock(&mutex_);
  const size_t slash = path.rfind('/');
  const std::string_view name = slash == std::string_view::npos ? path : path.substr(slash + 1);
  if (const auto at = things_.find(path); at != things_.end()) return entry_of(name, at->second);
  for (const auto& [each, thing] : things_) {
    if (!is_beneath(each, path)) continue;
    OriginEntry entry;
    entry.name = name;
    entry.kind = OriginEntry::Kind::kDirectory;
    return entry;
  }
  return absl::NotFoundError("nothing there");
}

absl::StatusOr<std::vector<OriginEntry>> FakeOrigin::list(std::string_view path) {
  ++lists;
  BLOBCACHE_RETURN_IF_ERROR(enter());
  const absl::MutexLock lock(&mutex_);
  if (const auto at = listings_.find(path); at != listings_.end()) return at->second;
  std::map<std::string, OriginEntry> found;
  for (const auto& [each, thing] : things_) {
    if (!is_beneath(each, path)) continue;
    const std::string_view rest = std::string_view(each).substr(path.empty() ? 0 : path.size() + 1);
    const std::string name(rest.substr(0, rest.find('/')));
    if (name.size() == rest.size()) {
      found[name] = entry_of(name, thing);
    } else {
      found[name].name = name;
      found[name].kind = OriginEntry::Kind::kDirectory;
    }
  }
  std::vector<OriginEntry> entries;
  for (auto& [name, entry] : found) entries.push_back(std::move(entry));
  return entries;
}

absl::StatusOr<OriginFile> FakeOrigin::open(std::string_view path) {
  ++opens;
  BLOBCACHE_RETURN_IF_ERROR(enter());
  const absl::MutexLock lock(&mutex_);
  const auto at = things_.find(path);
  if (at == things_.end()) return absl::NotFoundError("nothing there");
  Thing& thing = at->second;
  std::shared_ptr<page::Source> session = thing.session.lock();
  if (session == nullptr) {
    session = std::make_shared<FakeSource>(*this, thing.content);
    thing.session = session;
    thing.session_key = thing.lasting ? thing.key : key_of(next_key_++);
  }
  OriginFile file;
  file.version = {thing.session_key, thing.content.size(), std::move(session)};
  file.lasting = thing.lasting;
  if (thing.kind == OriginEntry::Kind::kImage) {
    file.make_image = [this, path = std::string(path)](page::ObjectRef cached) {
      return std::make_shared<FakeImage>(*this, path, std::move(cached));
    };
  }
  return file;
}

OriginHealth FakeOrigin::health() const {
  OriginHealth health;
  const absl::MutexLock lock(&mutex_);
  health.reachable = error_.ok();
  health.trouble = base::message(error_);
  for (const int calls : {look_ups.load(), lists.load(), opens.load()}) {
    health.requests += static_cast<uint64_t>(calls);
  }
  health.tried = health.requests > 0;
  health.bytes_read = fetched_bytes;
  return health;
}

}  // namespace blobcache::tree
