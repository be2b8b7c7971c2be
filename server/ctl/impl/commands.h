#pragma once

#include <functional>

#include "server/ctl/outcome.h"
#include "server/ctl/session.h"

namespace CLI {  // NOLINT(readability-identifier-naming): CLI11's name
class App;
}  // namespace CLI

namespace blobcache::ctl {

/// What a command does, once its arguments are understood.
using Action = std::function<Outcome(Session&)>;

// Each function adds one group's commands to the command line. When parsing comes to one of them,
// it sets `selected`, which must outlive `app`.
//
// Names tell completion what an argument is: FILE (a local file), PATH (of the tree), MOUNTPOINT (a
// local directory), DEVICE (a file in /dev), SHELL; an option says the same with its type name.

void add_data_commands(CLI::App& app, Action& selected);      ///< put, get
void add_transfer_commands(CLI::App& app, Action& selected);  ///< import, warm
void add_tree_commands(CLI::App& app, Action& selected);      ///< ls, stat, name, rm
void add_pin_commands(CLI::App& app, Action& selected);       ///< pin, unpin, evict
void add_volume_commands(CLI::App& app, Action& selected);    ///< volume create, ls, rm, ...
void add_admin_commands(CLI::App& app, Action& selected);     ///< status, exports
void add_mount_commands(CLI::App& app, Action& selected);     ///< mount, umount
void add_device_commands(CLI::App& app, Action& selected);    ///< attach, detach
void add_upkeep_commands(CLI::App& app, Action& selected);    ///< scrub, gc
void add_upgrade_command(CLI::App& app, Action& selected);    ///< upgrade
void add_config_commands(CLI::App& app, Action& selected);    ///< config check, config show
void add_completion_command(CLI::App& app, Action& selected);

}  // namespace blobcache::ctl
