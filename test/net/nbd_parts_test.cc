// The parts of an NBD origin that need no server.
#include <doctest/doctest.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/status.h"
#include "net/impl/flush_ledger.h"
#include "net/impl/hole_list.h"
#include "net/impl/nbd_exports.h"
#include "net/impl/nbd_retry.h"
#include "net/impl/write_order.h"
#include "net/impl/written_pages.h"
#include "net/nbd_origin.h"

namespace blobcache::net {
namespace {

constexpr uint64_t kPage = 4096;

TEST_CASE("options that cannot be are refused, others do not connect yet") {
  NbdOriginOptions good;
  good.name = "up";
  good.url = "nbd://nowhere.invalid/x";
  const absl::StatusOr<std::shared_ptr<tree::Origin>> origin = make_nbd_origin(good);
  REQUIRE(origin.ok());
  CHECK((*origin)->name() == "up");
  CHECK((*origin)->description() == "nbd nbd://nowhere.invalid:10809/x");
  CHECK((*origin)->type() == "nbd");
  CHECK((*origin)->url_of("x") == "nbd://nowhere.invalid:10809/x");
  const auto refused = [&](auto change) {
    NbdOriginOptions options = good;
    change(options);
    return make_nbd_origin(options).status().code() == absl::StatusCode::kInvalidArgument;
  };
  CHECK(refused([](NbdOriginOptions& o) { o.name = "a/b"; }));
  CHECK(refused([](NbdOriginOptions& o) { o.url = "nbd://a:b@c/"; }));
  CHECK(refused([](NbdOriginOptions& o) { o.connections = 0; }));
  CHECK(refused([](NbdOriginOptions& o) { o.connections = 17; }));
  CHECK(refused([](NbdOriginOptions& o) { o.immutable = !(o.read_only = false); }));
  CHECK(refused([](NbdOriginOptions& o) { o.connect_timeout = absl::ZeroDuration(); }));
  CHECK(refused([](NbdOriginOptions& o) { o.request_timeout = -absl::Seconds(1); }));
  CHECK(refused([](NbdOriginOptions& o) { o.tls_psk = "/keys"; }));
  // What TLS would not authenticate is refused, not believed.
  CHECK(refused([](NbdOriginOptions& o) { o.url = "nbds://h/"; }));
  CHECK(refused([](NbdOriginOptions& o) {  // whose key of them?
    o.url = "nbds://h/";
    o.tls_psk = "/keys";
  }));
  CHECK(refused([](NbdOriginOptions& o) { o.url = "nbds+unix:///?socket=/s"; }));
  CHECK(refused([](NbdOriginOptions& o) {
    o.url = "nbds+unix:///?socket=/s";
    o.tls_certificates = "/x";
  }));
  CHECK(refused([](NbdOriginOptions& o) {
    o.url = "nbds://h/";
    o.tls_psk = o.tls_certificates = "/x";
  }));
}

TEST_CASE("the url of an export names it for others, and says nothing of us") {
  NbdOriginOptions options;
  options.name = "up";
  options.url = "nbds+unix://me@/?socket=/run/a%20b";
  options.tls_psk = "/keys";
  const absl::StatusOr<std::shared_ptr<tree::Origin>> origin = make_nbd_origin(options);
  REQUIRE(origin.ok());
  CHECK((*origin)->url_of("a b/\xff?") == "nbds+unix:///a%20b/%FF%3F?socket=/run/a%20b");
}

TEST_CASE("names with slashes are directories; names that cannot be paths are left out") {
  const NbdExports exports({"b/two", "a", "b/one", "/x", "c//d", "..", "a/beneath", "b/one",
                            std::string(300, 'n'), "b/deep/est"});
  CHECK(exports.left_out() == 5);
  CHECK(exports.nameless() == NbdExports::Nameless::kNone);
  CHECK(exports.at("") == NbdExports::Kind::kDirectory);
  CHECK(exports.at("b") == NbdExports::Kind::kDirectory);
  CHECK(exports.at("a") == NbdExports::Kind::kExport);
  CHECK(exports.at("a/beneath") == NbdExports::Kind::kNothing);
  const auto top = exports.list("", 10);
  REQUIRE(top.ok());
  REQUIRE(top->size() == 2);
  CHECK((*top)[0].name == "a");
  CHECK_FALSE((*top)[0].directory);
  CHECK((*top)[1].name == "b");
  CHECK((*top)[1].directory);
  const auto below = exports.list("b", 10);
  REQUIRE(below.ok());
  REQUIRE(below->size() == 3);
  CHECK((*below)[0].name == "deep");
  CHECK((*below)[2].name == "two");
  CHECK(exports.list("a", 10).status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(exports.list("z", 10).status().code() == absl::StatusCode::kNotFound);
  CHECK(exports.list("b", 2).status().code() == absl::StatusCode::kResourceExhausted);
}

TEST_CASE("an export without a name is called default, unless that is another's name") {
  using Nameless = NbdExports::Nameless;
  const NbdExports shown({"x", "", "a"});
  CHECK(shown.nameless() == Nameless::kShown);
  CHECK(shown.left_out() == 0);
  CHECK(shown.at("default") == NbdExports::Kind::kExport);
  CHECK(shown.list("", 10)->size() == 3);
  CHECK(NbdExports({""}).at("default") == NbdExports::Kind::kExport);
  for (const std::string other : {"default", "default/x"}) {
    const NbdExports hidden({"", other});
    CHECK(hidden.nameless() == Nameless::kHidden);
    CHECK(hidden.left_out() == 0);
    CHECK(hidden.list("", 10)->size() == 1);
  }
  CHECK(NbdExports({"default"}).nameless() == Nameless::kNone);
}

TEST_CASE("a name is listed in its place, and what is too deep is left out") {
  const NbdExports exports({"a/b", "a-b", "a.b/c", "a0"});
  const auto top = exports.list("", 10);
  REQUIRE(top.ok());
  REQUIRE(top->size() == 4);
  CHECK((*top)[0].name == "a");
  CHECK((*top)[0].directory);
  CHECK((*top)[1].name == "a-b");
  CHECK((*top)[2].name == "a.b");
  CHECK((*top)[3].name == "a0");
  std::vector<std::string> deep;
  std::string name = "a";
  for (size_t depth = 2; depth <= NbdExports::kMaxDepth + 1; ++depth) name += "/a";
  deep.push_back(name);
  deep.push_back(name.substr(2) + "b");
  const NbdExports bounded(deep);
  CHECK(bounded.left_out() == 1);
  CHECK(bounded.at(deep[0]) == NbdExports::Kind::kNothing);
  CHECK(bounded.at(deep[1]) == NbdExports::Kind::kExport);
}

TEST_CASE("a flush that a loss came before is not believed, once, if something was answered") {
  FlushLedger ledger;
  ledger.lost();
  CHECK(ledger.believed(ledger.begin()));
  ledger.changed();
  const FlushLedger::Flush before = ledger.begin();
  CHECK(ledger.believed(before));
  ledger.lost();  // while it is under way
  ledger.changed();
  const FlushLedger::Flush after = ledger.begin();
  CHECK_FALSE(ledger.believed(before));
  CHECK_FALSE(ledger.believed(after));
  ledger.told(before);
  CHECK_FALSE(ledger.believed(after));  // two that were asked for at once are both told
  ledger.told(after);
  CHECK(ledger.believed(ledger.begin()));
  ledger.changed();
  CHECK(ledger.believed(ledger.begin()));
  ledger.told(ledger.begin());
  ledger.lost();
  CHECK(ledger.believed(ledger.begin()));
}

TEST_CASE("pauses double up to ten seconds, between half and all of that, and begin anew") {
  NbdBackoff least;
  NbdBackoff most;
  absl::Duration expected = absl::Milliseconds(100);
  for (int i = 0; i < 12; ++i) {
    CHECK(least.next(0) == expected / 2);
    CHECK(most.next(UINT32_MAX) == expected);
    expected = std::min(expected * 2, absl::Seconds(10));
  }
  most.succeeded();
  CHECK(most.next(UINT32_MAX) == absl::Milliseconds(100));
}

TEST_CASE("an error that may pass is believed the second time; others at once") {
  CHECK(nbd_error_may_pass(EIO, 1));
  CHECK(nbd_error_may_pass(ESHUTDOWN, 1));
  CHECK_FALSE(nbd_error_may_pass(EIO, 2));
  CHECK_FALSE(nbd_error_may_pass(ENOSPC, 1));
  CHECK(nbd_error(EPERM).code() == absl::StatusCode::kPermissionDenied);
  CHECK(nbd_error(ENOSPC).code() == absl::StatusCode::kResourceExhausted);
  CHECK(nbd_error(EINVAL).code() == absl::StatusCode::kInvalidArgument);
  CHECK(nbd_error(ENOTSUP).code() == absl::StatusCode::kUnimplemented);
  CHECK(nbd_error(EIO).code() == absl::StatusCode::kUnavailable);
  CHECK(nbd_error(ENOMEM).code() == absl::StatusCode::kUnavailable);
}

TEST_CASE("changes of the same bytes go in the order in which they came") {
  WriteOrder order;
  bool ready = false;
  const WriteOrder::Ticket first = order.enter(0, 100, ready);
  CHECK(ready);
  const WriteOrder::Ticket second = order.enter(50, 100, ready);
  CHECK_FALSE(ready);
  const WriteOrder::Ticket apart = order.enter(150, 10, ready);
  CHECK(ready);
  const WriteOrder::Ticket both = order.enter(0, 200, ready);  // waits for all three
  CHECK_FALSE(ready);
  CHECK(order.leave(apart).empty());
  CHECK(order.leave(first) == std::vector<WriteOrder::Ticket>{second});
  CHECK(order.leave(first).empty());  // it has left
  CHECK(order.leave(second) == std::vector<WriteOrder::Ticket>{both});
  CHECK(order.leave(both).empty());
  CHECK(order.empty());
}

TEST_CASE("one that gives up while it waits lets those behind it go no earlier") {
  WriteOrder order;
  bool ready = false;
  const WriteOrder::Ticket first = order.enter(0, 10, ready);
  const WriteOrder::Ticket second = order.enter(0, 10, ready);
  const WriteOrder::Ticket third = order.enter(0, 10, ready);
  CHECK(order.leave(second).empty());
  CHECK(order.leave(first) == std::vector<WriteOrder::Ticket>{third});
}

TEST_CASE("pages that were changed are told, in part and across chunks") {
  const uint64_t chunk = WrittenPages::kChunkPages * kPage;
  WrittenPages pages(4 * chunk + 100);
  CHECK(pages.none(0, 4 * chunk + 100));
  pages.mark(5000, 1);
  bool written = true;
  CHECK(pages.run(0, 20000, written) == 4096);
  CHECK_FALSE(written);
  CHECK(pages.run(4096, 20000, written) == 4096);
  CHECK(written);
  CHECK(pages.run(4100, 10, written) == 10);
  CHECK(written);
  CHECK(pages.run(8192, 4 * chunk, written) == 4 * chunk);
  CHECK_FALSE(written);
  pages.mark(chunk - 1, 2);
  CHECK(pages.run(chunk - kPage, 10 * kPage, written) == 2 * kPage);
  CHECK(written);
  pages.mark(4 * chunk + 99, 1);
  CHECK(pages.run(4 * chunk + 50, 50, written) == 50);
  CHECK(written);
  pages.mark(0, 0);
  CHECK(pages.none(0, 4096));
}

TEST_CASE("beyond the bound of bitmaps chunks count as changed as a whole") {
  const uint64_t chunk = WrittenPages::kChunkPages * kPage;
  WrittenPages pages(8 * chunk, 1);
  pages.mark(0, 1);
  pages.mark(2 * chunk + 8192, 1);
  CHECK(pages.chunks() == 1);
  bool written = false;
  CHECK(pages.run(2 * chunk, 4 * chunk, written) == chunk);
  CHECK(written);
  CHECK(pages.none(kPage, 2 * chunk - kPage));
  pages.mark(0, chunk);  // all of it: no bitmap is needed
  CHECK(pages.chunks() == 0);
  CHECK(pages.run(0, 2 * chunk, written) == chunk);
}

using Run = HoleList::Run;

TEST_CASE("what a server tells of holes is kept, joined and forgotten") {
  HoleList holes;
  CHECK_FALSE(holes.at(0, 10));
  holes.learn(holes.epoch(), 100, {{50, true}, {50, true}, {100, false}});
  CHECK(holes.runs() == 2);
  CHECK_FALSE(holes.at(99, 10));
  CHECK(holes.at(100, 1000) == Run{100, true});
  CHECK(holes.at(150, 10) == Run{10, true});
  CHECK(holes.at(299, 10) == Run{1, false});
  CHECK_FALSE(holes.at(300, 10));
  holes.learn(holes.epoch(), 300, {{10, false}});
  CHECK(holes.at(200, 1000) == Run{110, false});
  holes.forget(120, 10);
  CHECK(holes.at(100, 100) == Run{20, true});
  CHECK_FALSE(holes.at(125, 1));
  CHECK(holes.at(130, 100) == Run{70, true});
  holes.learn(holes.epoch(), 0, {{1000, false}});
  CHECK(holes.runs() == 1);
}

TEST_CASE("an answer to a question from before a change is not taken") {
  HoleList holes;
  const uint64_t asked = holes.epoch();
  holes.forget(0, 4096);
  holes.learn(asked, 0, {{1U << 20, true}});
  CHECK_FALSE(holes.at(0, 1));
}

TEST_CASE("the list of holes is bounded") {
  HoleList holes(4);
  for (uint64_t i = 0; i < 100; ++i) holes.learn(holes.epoch(), i * 100, {{10, i % 2 == 0}});
  CHECK(holes.runs() <= 4);
  CHECK(holes.at(9900, 10) == Run{10, false});
  holes.learn(holes.epoch(), 0, {{1, true}, {1, false}, {1, true}, {1, false}, {1, true}});
  CHECK(holes.runs() <= 4);
}

}  // namespace
}  // namespace blobcache::net
