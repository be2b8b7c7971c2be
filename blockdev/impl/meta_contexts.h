#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "blockdev/impl/export_directory.h"
#include "blockdev/impl/nbd_codec.h"

namespace blobcache::blockdev {

/// The metadata contexts that this server has; the numbers are what it calls them on the wire.
enum class MetaContext : uint32_t {
  kAllocation = 1,  ///< "base:allocation": what is a hole
  kTier = 2,        ///< "blobcache:tier": which tier has what
};

/// Some of them. Value type.
struct MetaContextSet {
  bool allocation = false;
  bool tier = false;

  [[nodiscard]] bool empty() const { return !allocation && !tier; }
};

/// A handshake's NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT, and what the client has
/// chosen by the latter. A query is a context's name, or, in a list, its namespace with the colon;
/// others find nothing. Not thread-safe.
class MetaContexts {
 public:
  /// `exports` must outlive this.
  explicit MetaContexts(ExportDirectory& exports) : exports_(exports) {}

  /// Appends the answer to one of the two options. `chunks`: replies in chunks are agreed on, as
  /// they have to be.
  void answer(uint32_t option, nbd::Bytes data, bool chunks, std::string& out);

  /// What was chosen is void.
  void forget() { chosen_ = {}; }

  /// What the transmission phase of the export with this name has. Nothing when the client chose
  /// for another one.
  [[nodiscard]] MetaContextSet chosen_for(std::string_view name) const {
    return name == chosen_name_ ? chosen_ : MetaContextSet{};
  }

 private:
  ExportDirectory& exports_;
  std::string chosen_name_;  ///< in full, whatever the client called it
  MetaContextSet chosen_;
};

}  // namespace blobcache::blockdev
