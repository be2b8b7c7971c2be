// How the store uses a source: shared fetches, errors that are not cached, cancelling.

#include "store/page/source.h"

#include <doctest/doctest.h>

#include <atomic>
#include <functional>
#include <optional>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "store/page/geometry.h"
#include "store/page/page_store.h"
#include "test/eventually.h"
#include "test/store/page/store_fixture.h"
#include "test/temporary_directory.h"

namespace blobcache::page {
namespace {

/// A source whose fetches end when the test says so. Byte i of the object is i * 31 / 7.
class ManualSource final : public Source {
 public:
  struct Waiting {
    uint64_t offset = 0;
    absl::Span<std::byte> into;
    FetchDone done;
    std::atomic<bool> cancelled{false};
  };

  static std::byte byte_at(uint64_t i) { return static_cast<std::byte>(i * 31 / 7); }

  std::unique_ptr<Fetch> fetch(uint64_t offset, absl::Span<std::byte> into,
                               FetchDone done) override {
    auto waiting = std::make_shared<Waiting>();
    waiting->offset = offset;
    waiting->into = into;
    waiting->done = std::move(done);
    fetches.push_back(waiting);
    if (during_fetch) during_fetch();
    class Handle final : public Fetch {
     public:
      explicit Handle(std::shared_ptr<Waiting> waiting) : waiting_(std::move(waiting)) {}
      void cancel() override { waiting_->cancelled = true; }

     private:
      std::shared_ptr<Waiting> waiting_;
    };
    return std::make_unique<Handle>(std::move(waiting));
  }

  void answer(size_t index, const absl::Status& status) {
    const std::shared_ptr<Waiting> waiting = fetches.at(index);
    if (status.ok()) {
      for (size_t i = 0; i < waiting->into.size(); ++i) {
        waiting->into[i] = byte_at(waiting->offset + i);
      }
    }
    // It holds the object, and that the source: whoever keeps it keeps all of them.
    FetchDone done = std::move(waiting->done);
    std::move(done)(status);
  }

  std::vector<std::shared_ptr<Waiting>> fetches;
  std::function<void()> during_fetch;  ///< called before fetch() returns, if set
};

struct SourceSetup {
  SourceSetup() {
    PageStoreOptions options;
    options.path = directory.path();
    options.memory_bytes = PageStore::kMinMemory;
    auto opened = PageStore::open(options);
    REQUIRE(opened.ok());
    store = *std::move(opened);
    ObjectSpec spec;
    spec.size_bytes = 10 * kExtentSize + 100;
    spec.incarnation = Incarnation::random();
    spec.source = source;
    object = store->attach(spec);
  }
  test::TemporaryDirectory directory;
  std::shared_ptr<ManualSource> source = std::make_shared<ManualSource>();
  std::unique_ptr<PageStore> store;
  ObjectRef object;
};

/// Where a read's answer lands.
struct Answer {
  Object::ReadDone take() {
    return [this](absl::StatusOr<PinnedRange> result) {
      ++calls;
      value = std::move(result);
    };
  }
  int calls = 0;
  std::optional<absl::StatusOr<PinnedRange>> value;
};

}  // namespace

TEST_CASE("readers of overlapping pages share what is under way and fetch only the rest") {
  SourceSetup setup;
  Answer first;
  Answer second;
  setup.object->read(0, 2 * kPageSize, first.take());
  setup.object->read(kPageSize, 2 * kPageSize, second.take());
  REQUIRE(setup.source->fetches.size() == 2);
  CHECK(setup.source->fetches[0]->into.size() == 2 * kPageSize);
  CHECK(setup.source->fetches[1]->offset == 2 * kPageSize);
  CHECK(setup.source->fetches[1]->into.size() == kPageSize);
  setup.source->answer(1, absl::OkStatus());
  CHECK(second.calls == 0);
  setup.source->answer(0, absl::OkStatus());
  CHECK(first.calls == 1);
  REQUIRE(second.calls == 1);
  REQUIRE(second.value->ok());
  const auto* bytes = static_cast<const std::byte*>((*second.value)->pieces()[0].iov_base);
  for (size_t i = 0; i < 2 * kPageSize; ++i) {
    REQUIRE(bytes[i] == ManualSource::byte_at(kPageSize + i));
  }
  CHECK(setup.store->stats().shared_flight_pages == 1);
  CHECK(setup.store->stats().remote_fetched_bytes == 3 * kPageSize);
}

TEST_CASE("an error goes to those who wait and is not cached") {
  SourceSetup setup;
  Answer first;
  Answer second;
  setup.object->read(0, 100, first.take());
  setup.object->read(50, 100, second.take());
  REQUIRE(setup.source->fetches.size() == 1);
  setup.source->answer(0, absl::UnavailableError("away"));
  CHECK(absl::IsUnavailable(first.value->status()));
  CHECK(absl::IsUnavailable(second.value->status()));
  Answer again;
  setup.object->read(0, 100, again.take());
  REQUIRE(setup.source->fetches.size() == 2);
  setup.source->answer(1, absl::OkStatus());
  CHECK(again.value->ok());
}

TEST_CASE("one waiter's cancel leaves the others alone; the last one's ends the fetch") {
  SourceSetup setup;
  Answer first;
  Answer second;
  PendingRead one = setup.object->read(0, 100, first.take());
  PendingRead two = setup.object->read(0, 100, second.take());
  one.cancel();
  one.cancel();
  CHECK(first.calls == 1);
  CHECK(absl::IsCancelled(first.value->status()));
  CHECK_FALSE(setup.source->fetches[0]->cancelled);
  two.cancel();
  CHECK(setup.source->fetches[0]->cancelled);
  setup.source->answer(0, absl::CancelledError(""));
  CHECK(first.calls == 1);
  CHECK(second.calls == 1);
  CHECK(setup.store->stats().flights == 0);
  CHECK(setup.store->stats().memory_pinned_frames == 0);
}

TEST_CASE("who joins a fetch that is being cancelled gets his pages, not another's cancel") {
  SourceSetup setup;
  Answer first;
  Answer second;
  setup.object->read(0, 3 * kPageSize, first.take()).cancel();
  REQUIRE(setup.source->fetches[0]->cancelled);
  setup.object->read(kPageSize, 100, second.take());
  CHECK(setup.source->fetches.size() == 1);
  setup.source->answer(0, absl::CancelledError(""));
  CHECK(second.calls == 0);
  // Only what is wanted is asked for again.
  REQUIRE(setup.source->fetches.size() == 2);
  CHECK(setup.source->fetches[1]->offset == kPageSize);
  CHECK(setup.source->fetches[1]->into.size() == kPageSize);
  setup.source->answer(1, absl::OkStatus());
  REQUIRE(second.calls == 1);
  CHECK(second.value->ok());
  second.value.reset();
  CHECK(setup.store->stats().flights == 0);
  CHECK(setup.store->stats().memory_pinned_frames == 0);
}

TEST_CASE("a source that gives up by itself is not asked over and over") {
  SourceSetup setup;
  Answer answer;
  setup.object->read(0, 100, answer.take());
  setup.source->answer(0, absl::CancelledError("shutting down"));
  CHECK(setup.source->fetches.size() == 1);
  CHECK(absl::IsCancelled(answer.value->status()));
}

TEST_CASE("a cancel that comes before there is something to cancel is not lost") {
  Fixture fixture;
  const auto source = std::make_shared<ManualSource>();
  absl::Notification asked;
  absl::Notification cancelled;
  source->during_fetch = [&] {
    asked.Notify();
    cancelled.WaitForNotification();
  };
  // A damaged page makes the store turn to the source on a thread of its own.
  ObjectSpec spec = fixture.put(random_bytes(300'000, 1), 1);
  flip_byte(fixture.file_of(spec), 100);
  spec.source = source;
  const ObjectRef object = fixture.store().attach(spec);
  Answer answer;
  PendingRead read = object->read(0, 100, answer.take());
  asked.WaitForNotification();
  read.cancel();
  CHECK(absl::IsCancelled(answer.value->status()));
  cancelled.Notify();
  REQUIRE(test::eventually([&] { return source->fetches.at(0)->cancelled.load(); }));
  source->answer(0, absl::CancelledError(""));
  CHECK(fixture.store().stats().flights == 0);
  CHECK(source->fetches.size() == 1);
}

TEST_CASE("a cancelled fetch that was faster still serves the next reader") {
  SourceSetup setup;
  Answer first;
  setup.object->read(0, 100, first.take()).cancel();
  setup.source->answer(0, absl::OkStatus());
  PinnedRange range;
  CHECK(setup.object->try_read(0, 100, range));
}

TEST_CASE("the short tail of an object is asked for as it is and padded with zeros") {
  SourceSetup setup;
  Answer answer;
  const uint64_t offset = 10 * kExtentSize;
  setup.object->read(offset, 100, answer.take());
  REQUIRE(setup.source->fetches.size() == 1);
  CHECK(setup.source->fetches[0]->into.size() == 100);
  setup.source->answer(0, absl::OkStatus());
  CHECK((*answer.value)->size_bytes() == 100);
}

TEST_CASE("reads beyond the memory wait in line and all are answered in the end") {
  SourceSetup setup;
  std::vector<Answer> answers(10);
  for (size_t i = 0; i < answers.size(); ++i) {
    setup.object->read(i * kExtentSize, kExtentSize, answers[i].take());
  }
  for (size_t i = 0; i < answers.size(); ++i) {
    REQUIRE(setup.source->fetches.size() > i);
    setup.source->answer(i, absl::OkStatus());
    REQUIRE(answers[i].value.has_value());
    CHECK(answers[i].value->ok());
    answers[i].value.reset();
  }
}

}  // namespace blobcache::page
