#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "server/ctl/interrupt.h"
#include "server/ctl/progress_bar.h"
#include "server/ctl/session.h"
#include "server/ctl/text.h"

namespace blobcache::ctl {

/// A progress bar, where one is wanted and can be seen, that a signal wipes away, too.
[[nodiscard]] inline std::shared_ptr<ProgressBar> make_bar(Interrupt& interrupt,
                                                           const GlobalOptions& options,
                                                           const std::string& label,
                                                           std::optional<uint64_t> total) {
  const bool enabled = !options.json && !options.quiet && ProgressBar::terminal_can_show();
  auto bar = std::make_shared<ProgressBar>(escape(label), total, enabled);
  interrupt.add([bar] { bar->wipe(); });
  return bar;
}

}  // namespace blobcache::ctl
