#include "server/daemon_handover.h"

#include <algorithm>

#include "base/status.h"

namespace blobcache::server {

base::Parcel pack(DaemonHandover handover) {
  base::ParcelWriter parcel;
  parcel.add_parcel(std::move(handover.lock));
  parcel.add_parcel(std::move(handover.tree));
  parcel.add_number(handover.mounts.size());
  for (base::Parcel& mount : handover.mounts) parcel.add_parcel(std::move(mount));
  parcel.add_number(handover.sockets.size());
  for (HandedSocket& each : handover.sockets) {
    parcel.add_text(each.door);
    parcel.add_text(each.wanted);
    parcel.add_text(each.actual);
    parcel.add_descriptor(std::move(each.socket));
  }
  parcel.add_text(handover.metrics_wanted);
  parcel.add_text(handover.metrics_actual);
  parcel.add_number(handover.devices.size());
  for (const HandedDevice& device : handover.devices) {
    parcel.add_number(device.id);
    parcel.add_text(device.path);
  }
  return std::move(parcel).take();
}

absl::StatusOr<DaemonHandover> unpack(const base::Parcel& parcel) {
  base::ParcelReader reader(parcel);
  DaemonHandover handover;
  handover.lock = reader.parcel();
  handover.tree = reader.parcel();
  for (size_t left = reader.count(); left > 0; --left) handover.mounts.push_back(reader.parcel());
  for (size_t left = reader.count(); left > 0 && reader.status().ok(); --left) {
    HandedSocket each;
    each.door = reader.text();
    each.wanted = reader.text();
    each.actual = reader.text();
    each.socket = reader.descriptor();
    handover.sockets.push_back(std::move(each));
  }
  handover.metrics_wanted = reader.text();
  handover.metrics_actual = reader.text();
  for (size_t left = reader.count(); left > 0 && reader.status().ok(); --left) {
    HandedDevice device;
    device.id = static_cast<uint32_t>(reader.number());
    device.path = reader.text();
    handover.devices.push_back(std::move(device));
  }
  BLOBCACHE_RETURN_IF_ERROR(base::annotate(reader.end(), "the state that was handed over"));
  return handover;
}

absl::StatusOr<base::UniqueFd> HandedSockets::take(std::string_view door,
                                                   base::ListenAddress& address) {
  const std::string wanted = address.to_string();
  const auto at = std::find_if(sockets_.begin(), sockets_.end(), [&](const HandedSocket& each) {
    return each.door == door && each.wanted == wanted && each.socket.valid();
  });
  if (at == sockets_.end()) return base::listen_on(address);
  BLOBCACHE_ASSIGN_OR_RETURN(address, base::parse_listen_address(at->actual));
  base::UniqueFd socket = std::move(at->socket);
  sockets_.erase(at);
  return socket;
}

void HandedSockets::close_rest() {
  for (HandedSocket& each : sockets_) {
    each.socket.reset();
    const absl::StatusOr<base::ListenAddress> address = base::parse_listen_address(each.actual);
    if (address.ok()) base::remove_socket_file(*address);
  }
  sockets_.clear();
}

}  // namespace blobcache::server
