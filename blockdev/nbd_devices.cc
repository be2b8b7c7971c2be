#include "blockdev/nbd_devices.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <set>
#include <sstream>
#include <system_error>

#include "absl/time/clock.h"
#include "base/status.h"

namespace blobcache::blockdev {
namespace {

constexpr std::string_view kOurs = "blobcache ";
constexpr size_t kLongestPath = 1024;
/// 2^20 minors, of which the driver gives 32 to each device.
constexpr uint32_t kDevices = uint32_t{1} << 15;
constexpr uint64_t kSector = 512;

/// A file of sysfs or procfs, as it is; nothing when it cannot be read.
std::optional<std::string> read_file(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

/// The same without the newline at its end; "" when there is none.
std::string read_value(const std::filesystem::path& path) {
  std::string value = read_file(path).value_or("");
  if (value.ends_with('\n')) value.pop_back();
  return value;
}

std::optional<uint64_t> parse_number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// N of "/dev/<driver>N", also without the folder.
std::optional<uint32_t> parse_device(std::string_view text, std::string_view driver) {
  if (text.starts_with("/dev/")) text.remove_prefix(5);
  if (!text.starts_with(driver)) return std::nullopt;
  text.remove_prefix(driver.size());
  const std::optional<uint64_t> number = parse_number(text);
  const bool plain = text.size() == 1 || !text.starts_with('0');
  if (!number || !plain || *number >= kDevices) return std::nullopt;
  return static_cast<uint32_t>(*number);
}

/// As the kernel writes file names into /proc: "\040" is a space.
std::string unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto octal = [&](size_t at) { return text[at] >= '0' && text[at] <= '7'; };
    if (text[i] == '\\' && i + 3 < text.size() && octal(i + 1) && octal(i + 2) && octal(i + 3)) {
      const int code = (text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0');
      out.push_back(static_cast<char>(code));
      i += 3;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

std::vector<std::string> entries(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator at(folder, error), end; !error && at != end;
       at.increment(error)) {
    names.push_back(at->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// Requests to a device.
struct Requests {
  uint64_t ended = 0;
  uint64_t under_way = 0;
};

/// Out of /sys/block/<device>/stat; see the kernel's Documentation/block/stat.rst.
Requests parse_requests(const std::string& stat) {
  constexpr size_t kUnderWay = 8;
  constexpr std::array<size_t, 4> kEnded = {0, 4, 11, 15};  // reads, writes, discards, flushes
  std::istringstream fields(stat);
  std::vector<uint64_t> values;
  for (uint64_t value = 0; fields >> value;) values.push_back(value);
  values.resize(std::max<size_t>(values.size(), kEnded.back() + 1));
  Requests requests{.under_way = values[kUnderWay]};
  for (const size_t field : kEnded) requests.ended += values[field];
  return requests;
}

/// A device and its partitions, by number and by name.
struct Parts {
  std::set<std::string> numbers;  // "43:0"
  std::set<std::string> names;    // "/dev/nbd0p1"
};

/// Mountpoints out of /proc/self/mountinfo; see proc(5).
void add_mounts(const std::string& mountinfo, const Parts& parts, std::vector<std::string>& users) {
  std::istringstream lines(mountinfo);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::string id;
    std::string parent;
    std::string number;
    std::string root;
    std::string point;
    if (!(fields >> id >> parent >> number >> root >> point)) continue;
    std::string type;
    std::string source;
    for (std::string field; fields >> field;) {
      if (field != "-") continue;
      fields >> type >> source;
      break;
    }
    // A file system of several devices has a number of its own.
    if (parts.numbers.contains(number) || parts.names.contains(unescape(source))) {
      users.push_back(fmt::format("mounted on {}", unescape(point)));
    }
  }
}

void add_swap(const std::string& swaps, const Parts& parts, std::vector<std::string>& users) {
  std::istringstream lines(swaps);
  for (std::string line; std::getline(lines, line);) {
    if (parts.names.contains(unescape(line.substr(0, line.find_first_of(" \t"))))) {
      users.emplace_back("used as swap");
    }
  }
}

}  // namespace

std::string DeviceContent::to_identifier() const {
  return fmt::format("{}{} {}", kOurs, id, path.substr(0, kLongestPath));
}

std::optional<DeviceContent> DeviceContent::parse(std::string_view identifier) {
  if (!identifier.starts_with(kOurs)) return std::nullopt;
  identifier.remove_prefix(kOurs.size());
  const size_t space = identifier.find(' ');
  if (space == 0 || space == std::string_view::npos) return std::nullopt;
  return DeviceContent{.id = std::string(identifier.substr(0, space)),
                       .path = std::string(identifier.substr(space + 1))};
}

absl::StatusOr<uint32_t> parse_nbd_device(std::string_view text) {
  if (const std::optional<uint32_t> index = parse_device(text, "nbd")) return *index;
  return absl::InvalidArgumentError("a device is named as in /dev/nbd0 or, of ublk, /dev/ublkb0");
}

std::string nbd_device_name(uint32_t index) { return fmt::format("/dev/nbd{}", index); }

absl::StatusOr<uint32_t> parse_ublk_device(std::string_view text) {
  if (const std::optional<uint32_t> id = parse_device(text, "ublkb")) return *id;
  return absl::InvalidArgumentError("a device of ublk is named as in /dev/ublkb0");
}

std::string ublk_device_name(uint32_t id) { return fmt::format("/dev/ublkb{}", id); }

std::filesystem::path NbdDevices::block(const std::string& device) const {
  return roots_.sys / "block" / device;
}

std::vector<std::filesystem::path> NbdDevices::folders(const std::string& device) const {
  std::vector<std::filesystem::path> all = {block(device)};
  const std::string prefix = device + "p";
  for (const std::string& name : entries(block(device))) {
    if (name.starts_with(prefix)) all.push_back(block(device) / name);
  }
  return all;
}

std::optional<NbdDevice> NbdDevices::find(uint32_t index) const {
  const std::filesystem::path device = block(fmt::format("nbd{}", index));
  // There as long as the driver has connections for it.
  if (!read_file(device / "pid")) return std::nullopt;
  NbdDevice found;
  found.index = index;
  found.size_bytes = parse_number(read_value(device / "size")).value_or(0) * kSector;
  found.read_only = read_value(device / "ro") == "1";
  found.identifier = read_value(device / "backend");
  return found;
}

std::vector<NbdDevice> NbdDevices::attached() const {
  std::vector<NbdDevice> all;
  for (const std::string& name : entries(roots_.sys / "block")) {
    const absl::StatusOr<uint32_t> index = parse_nbd_device(name);
    if (!index.ok()) continue;
    if (std::optional<NbdDevice> device = find(*index)) all.push_back(*std::move(device));
  }
  std::sort(all.begin(), all.end(),
            [](const NbdDevice& a, const NbdDevice& b) { return a.index < b.index; });
  return all;
}

std::vector<std::string> NbdDevices::users(const std::string& device) const {
  Parts parts;
  std::vector<std::string> users;
  for (const std::filesystem::path& folder : folders(device)) {
    parts.numbers.insert(read_value(folder / "dev"));
    parts.names.insert("/dev/" + folder.filename().string());
    for (const std::string& holder : entries(folder / "holders")) {
      users.push_back("used by " + holder);
    }
  }
  add_mounts(read_file(roots_.proc / "self" / "mountinfo").value_or(""), parts, users);
  add_swap(read_file(roots_.proc / "swaps").value_or(""), parts, users);
  return users;
}

absl::StatusOr<base::UniqueFd> NbdDevices::claim(const std::string& device) const {
  const std::filesystem::path file = roots_.dev / device;
  base::UniqueFd fd(::open(file.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC | O_NOCTTY));
  if (fd.valid() || errno == ENOENT) return fd;
  if (errno != EBUSY) return base::errno_error(errno, file.native());
  return base::error(absl::StatusCode::kFailedPrecondition,
                     "it is in use by a program, or mounted where we do not see it");
}

void NbdDevices::settle(const std::string& device) const {
  const std::filesystem::path file = roots_.dev / device;
  const base::UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
}

bool NbdDevices::answers(uint32_t index, absl::Duration longest) const {
  const std::filesystem::path file = block(fmt::format("nbd{}", index)) / "stat";
  const Requests before = parse_requests(read_value(file));
  const absl::Time deadline = absl::Now() + longest;
  for (Requests now = before; now.under_way > 0; now = parse_requests(read_value(file))) {
    if (now.ended != before.ended) return true;
    if (absl::Now() >= deadline) return false;
    absl::SleepFor(absl::Milliseconds(20));
  }
  return true;
}

bool NbdDevices::wait_gone(uint32_t index, absl::Duration longest) const {
  const absl::Time deadline = absl::Now() + longest;
  while (find(index)) {
    if (absl::Now() >= deadline) return false;
    absl::SleepFor(absl::Milliseconds(20));
  }
  return true;
}

}  // namespace blobcache::blockdev
