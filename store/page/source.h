#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/types/span.h"

namespace blobcache::page {

/// Where the bytes of one object come from when no local tier has them: a peer, an origin.
/// Implementations live in net/; the page store owns the interface and calls it.
///
/// A source answers for what it brings: it checks whatever its wire lets it check (a peer's CRC32C
/// a page, TLS, lengths, validators) before it says OK. The store itself compares what its page map
/// has a checksum of, and serves nothing that differs.
///
/// Thread-safe: the store fetches from several threads at once.
class Source {
 public:
  /// A fetch under way. Destroying it has no effect on the fetch.
  class Fetch {
   public:
    virtual ~Fetch() = default;
    /// Asks the fetch to end early. `done` is still called exactly once, with CANCELLED if the
    /// fetch had not finished. Thread-safe; may be called after `done`.
    virtual void cancel() = 0;
    /// Somebody waits now for what fetch_ahead() was asked for. Thread-safe; may be called after
    /// `done`, and more than once.
    virtual void hasten() {}
  };

  /// OK, or why the bytes could not be had. Errors go to the readers who wait and are never cached.
  using FetchDone = absl::AnyInvocable<void(absl::Status)>;

  virtual ~Source() = default;

  /// Fills `into` with the object's bytes at `offset` (a multiple of the page size) and calls
  /// `done` exactly once, on any thread, perhaps before returning. `into` stays valid until then
  /// and belongs to the fetch alone; after an error its content is undefined. The range lies within
  /// the object.
  [[nodiscard]] virtual std::unique_ptr<Fetch> fetch(uint64_t offset, absl::Span<std::byte> into,
                                                     FetchDone done) = 0;

  /// The same for bytes that nobody has asked for yet: what fetch() is asked for goes first,
  /// wherever the two wait for one another.
  [[nodiscard]] virtual std::unique_ptr<Fetch> fetch_ahead(uint64_t offset,
                                                           absl::Span<std::byte> into,
                                                           FetchDone done) {
    return fetch(offset, into, std::move(done));
  }
};

}  // namespace blobcache::page
