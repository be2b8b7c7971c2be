#include "net/impl/write_order.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <vector>

namespace blobcache::net {

WriteOrder::Ticket WriteOrder::enter(uint64_t offset, uint64_t length, bool& ready) {
  Change change{++last_, offset, offset + length, 0};
  for (const Change& earlier : changes_) {
    if (earlier.begin < change.end && change.begin < earlier.end) ++change.waits_for;
  }
  ready = change.waits_for == 0;
  changes_.push_back(change);
  return change.ticket;
}

std::vector<WriteOrder::Ticket> WriteOrder::leave(Ticket ticket) {
  std::vector<Ticket> ready;
  const auto found = std::find_if(changes_.begin(), changes_.end(),
                                  [&](const Change& c) { return c.ticket == ticket; });
  if (found == changes_.end()) return ready;
  for (auto later = std::next(found); later != changes_.end(); ++later) {
    if (found->begin < later->end && later->begin < found->end && --later->waits_for == 0) {
      ready.push_back(later->ticket);
    }
  }
  changes_.erase(found);
  return ready;
}

}  // namespace blobcache::net
