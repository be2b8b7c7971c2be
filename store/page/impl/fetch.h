#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>

#include "absl/status/status.h"
#include "store/page/frame_pool.h"
#include "store/page/geometry.h"
#include "store/page/impl/flight_table.h"
#include "store/page/page_map.h"

namespace blobcache::page {

class ObjectImpl;
struct StoreCore;

/// Brings some pages of one extent into its frame, from the disk or else from the object's source,
/// checks them, makes them visible and wakes who waits for them. One fetch brings a page, however
/// many wait.
///
/// A fetch holds a pin on the frame until its last page is settled, and a reference to the object.
/// Its steps run on the thread that started it, the ring's and the source's; no two touch the same
/// page.
class Fetch : public std::enable_shared_from_this<Fetch> {
 public:
  /// Pages of one extent. Value type.
  struct Order {
    uint64_t index = 0;  ///< of the extent
    PageMask pages = 0;
    bool ahead = false;  ///< nobody has asked for them yet
  };

  /// The pages are in the extent's in_flight already, by the caller's doing; the fetch takes the
  /// pin over.
  static void start(StoreCore& core, std::shared_ptr<ObjectImpl> object, const Order& order,
                    Pin pin);
  ~Fetch() = default;
  Fetch(const Fetch&) = delete;
  Fetch& operator=(const Fetch&) = delete;

 private:
  Fetch(StoreCore& core, std::shared_ptr<ObjectImpl> object, const Order& order, Pin pin);

  /// Splits the pages by where they are; the map block tells.
  void with_map(PageMask pages);
  void zero(PageMask pages);
  /// `again`: a second look at pages that did not match their checksums.
  void from_disk(PageMask run, bool again);
  void disk_done(PageMask run, bool again, const OpenFiles& files, int result);
  void disk_failed(PageMask run, bool again, int error);
  /// The pages of `run` whose checksum is right.
  [[nodiscard]] PageMask verify(PageMask run) const;
  /// The pages whose checksum the page map has, whether or not the disk has the pages.
  [[nodiscard]] PageMask known_checksums() const;
  /// The disk does not have these pages after all; those that it was thought to have.
  PageMask drop(PageMask pages);
  /// The disk has them, whatever was thought.
  void restore(PageMask pages);
  /// From the source; with none, the pages fail with `why`.
  void from_source(PageMask pages, const absl::Status& why);
  void source_done(PageMask run, const absl::Status& status);
  /// Lets the last waiter to leave cancel the fetch; cancels it now when all have left already.
  void register_source_fetch(PageMask run, std::shared_ptr<Source::Fetch> fetch);
  /// The pages are final (OK) or will not come: publishes them and wakes the waiters. Pages of a
  /// fetch that was cancelled because nobody waited are fetched anew for those who have come since.
  void settle(PageMask pages, const absl::Status& status);

  [[nodiscard]] std::byte* memory(PageMask run) const;
  [[nodiscard]] uint64_t offset(PageMask run) const;
  /// DATA_LOSS of these pages.
  [[nodiscard]] absl::Status lost(PageMask pages, std::string_view why) const;
  /// How many bytes of a run the object has; the rest of its last page is zero.
  [[nodiscard]] uint64_t object_bytes(PageMask run) const;
  void clear_tail(PageMask run) const;

  StoreCore& core_;
  const std::shared_ptr<ObjectImpl> object_;
  const ExtentId id_;
  const Pin pin_;
  const bool ahead_;
  std::shared_ptr<const MapBlock> map_;  ///< absent: not to be had; set before the first page moves
  std::atomic<PageMask> unsettled_;
};

}  // namespace blobcache::page
