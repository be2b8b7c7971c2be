#pragma once

#include <cstdint>
#include <list>
#include <vector>

namespace blobcache::net {

/// Keeps changes of the same bytes in the order in which they came: one begins only when all
/// earlier ones that overlap it have ended, however often they had to be sent. Those that do not
/// overlap go at once. Bounded by what its user lets in. Not thread-safe.
class WriteOrder {
 public:
  using Ticket = uint64_t;

  /// A change of [offset, offset + length), length not 0; `ready` tells whether it may begin.
  [[nodiscard]] Ticket enter(uint64_t offset, uint64_t length, bool& ready);
  /// The change has ended, or was given up before it began. Returns those that may begin now.
  [[nodiscard]] std::vector<Ticket> leave(Ticket ticket);
  [[nodiscard]] bool empty() const { return changes_.empty(); }

 private:
  struct Change {
    Ticket ticket;
    uint64_t begin;
    uint64_t end;
    uint64_t waits_for;  ///< how many earlier ones that overlap it
  };
  std::list<Change> changes_;  ///< in the order in which they came
  Ticket last_ = 0;
};

}  // namespace blobcache::net
