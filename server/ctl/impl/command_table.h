#pragma once

#include <memory>

#include "server/ctl/impl/commands.h"
#include "server/ctl/session.h"

namespace blobcache::ctl {

/// The whole command line: every command with its options, as CLI11 parses it and completion reads
/// it. One place, so that help, parser and completion cannot differ. One thread at a time.
struct CommandTable {
  CommandTable();
  ~CommandTable();
  CommandTable(const CommandTable&) = delete;
  CommandTable& operator=(const CommandTable&) = delete;

  GlobalOptions options;  ///< filled by parsing
  Action selected;        ///< set by parsing
  std::unique_ptr<CLI::App> app;
};

}  // namespace blobcache::ctl
