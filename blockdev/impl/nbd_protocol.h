#pragma once

#include <cstddef>
#include <cstdint>

/// The numbers of the NBD protocol, under the names that its specification gives them
/// (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md; section names are the
/// specification's). Everything on the wire is big-endian. Only what this server speaks or must
/// recognise is here.
namespace blobcache::blockdev::nbd {

// "Newstyle negotiation" and "Fixed newstyle negotiation".
inline constexpr uint64_t kInitPasswd = 0x4e42444d41474943;   // "NBDMAGIC"
inline constexpr uint64_t kOptionMagic = 0x49484156454f5054;  // "IHAVEOPT"
inline constexpr uint64_t kOptionReplyMagic = 0x3e889045565a9;

// "Handshake flags" and "Client flags": the same bits both ways.
inline constexpr uint16_t kFlagFixedNewstyle = 1U << 0;
inline constexpr uint16_t kFlagNoZeroes = 1U << 1;

// "Transmission flags".
inline constexpr uint16_t kFlagHasFlags = 1U << 0;
inline constexpr uint16_t kFlagReadOnly = 1U << 1;
inline constexpr uint16_t kFlagSendFlush = 1U << 2;
inline constexpr uint16_t kFlagSendFua = 1U << 3;
inline constexpr uint16_t kFlagSendTrim = 1U << 5;
inline constexpr uint16_t kFlagSendWriteZeroes = 1U << 6;
inline constexpr uint16_t kFlagSendDf = 1U << 7;
inline constexpr uint16_t kFlagCanMultiConn = 1U << 8;
inline constexpr uint16_t kFlagSendCache = 1U << 10;
inline constexpr uint16_t kFlagSendFastZero = 1U << 11;

// "Option types".
inline constexpr uint32_t kOptExportName = 1;
inline constexpr uint32_t kOptAbort = 2;
inline constexpr uint32_t kOptList = 3;
inline constexpr uint32_t kOptStartTls = 5;
inline constexpr uint32_t kOptInfo = 6;
inline constexpr uint32_t kOptGo = 7;
inline constexpr uint32_t kOptStructuredReply = 8;
inline constexpr uint32_t kOptListMetaContext = 9;
inline constexpr uint32_t kOptSetMetaContext = 10;
inline constexpr uint32_t kOptExtendedHeaders = 11;

// "Option reply types".
inline constexpr uint32_t kRepAck = 1;
inline constexpr uint32_t kRepServer = 2;
inline constexpr uint32_t kRepInfo = 3;
inline constexpr uint32_t kRepMetaContext = 4;
inline constexpr uint32_t kRepErrorBit = 1U << 31;
inline constexpr uint32_t kRepErrUnsup = kRepErrorBit + 1;
inline constexpr uint32_t kRepErrPolicy = kRepErrorBit + 2;
inline constexpr uint32_t kRepErrInvalid = kRepErrorBit + 3;
inline constexpr uint32_t kRepErrTlsReqd = kRepErrorBit + 5;
inline constexpr uint32_t kRepErrUnknown = kRepErrorBit + 6;
inline constexpr uint32_t kRepErrTooBig = kRepErrorBit + 9;
inline constexpr uint32_t kRepErrExtHeaderReqd = kRepErrorBit + 10;

// NBD_REP_INFO information types.
inline constexpr uint16_t kInfoExport = 0;
inline constexpr uint16_t kInfoName = 1;
inline constexpr uint16_t kInfoDescription = 2;
inline constexpr uint16_t kInfoBlockSize = 3;

// "Request message", "Simple reply message", "Structured reply chunk message" and "Extended reply
// chunk message". Extended headers are in the specification's branch extension-ext-header.
inline constexpr uint32_t kRequestMagic = 0x25609513;
inline constexpr uint32_t kSimpleReplyMagic = 0x67446698;
inline constexpr uint32_t kStructuredReplyMagic = 0x668e33ef;
inline constexpr uint32_t kExtendedRequestMagic = 0x21e41c71;
inline constexpr uint32_t kExtendedReplyMagic = 0x6e8a278c;
inline constexpr size_t kRequestBytes = 28;
inline constexpr size_t kExtendedRequestBytes = 32;
inline constexpr size_t kSimpleReplyBytes = 16;
inline constexpr size_t kChunkHeaderBytes = 20;
inline constexpr size_t kExtendedChunkHeaderBytes = 32;

// "Request types".
inline constexpr uint16_t kCmdRead = 0;
inline constexpr uint16_t kCmdWrite = 1;
inline constexpr uint16_t kCmdDisc = 2;
inline constexpr uint16_t kCmdFlush = 3;
inline constexpr uint16_t kCmdTrim = 4;
inline constexpr uint16_t kCmdCache = 5;
inline constexpr uint16_t kCmdWriteZeroes = 6;
inline constexpr uint16_t kCmdBlockStatus = 7;

// "Command flags".
inline constexpr uint16_t kCmdFlagFua = 1U << 0;
inline constexpr uint16_t kCmdFlagNoHole = 1U << 1;
inline constexpr uint16_t kCmdFlagDf = 1U << 2;
inline constexpr uint16_t kCmdFlagReqOne = 1U << 3;
inline constexpr uint16_t kCmdFlagFastZero = 1U << 4;
inline constexpr uint16_t kCmdFlagPayloadLen = 1U << 5;

// "Structured reply flags" and "Structured reply types".
inline constexpr uint16_t kReplyFlagDone = 1U << 0;
inline constexpr uint16_t kReplyTypeNone = 0;
inline constexpr uint16_t kReplyTypeOffsetData = 1;
inline constexpr uint16_t kReplyTypeOffsetHole = 2;
inline constexpr uint16_t kReplyTypeBlockStatus = 5;
inline constexpr uint16_t kReplyTypeBlockStatusExt = 6;
inline constexpr uint16_t kReplyTypeError = (1U << 15) + 1;
inline constexpr uint16_t kReplyTypeErrorOffset = (1U << 15) + 2;

// "Error values".
inline constexpr uint32_t kEPerm = 1;
inline constexpr uint32_t kEIo = 5;
inline constexpr uint32_t kEInval = 22;
inline constexpr uint32_t kENoSpc = 28;
inline constexpr uint32_t kEOverflow = 75;
inline constexpr uint32_t kENotSup = 95;
inline constexpr uint32_t kEShutdown = 108;

// The status flags of "base:allocation".
inline constexpr uint32_t kStateHole = 1U << 0;
inline constexpr uint32_t kStateZero = 1U << 1;

// "Size constraints": what NBD_INFO_BLOCK_SIZE tells, and the longest string of the protocol.
inline constexpr uint32_t kMinBlock = 1;
inline constexpr uint32_t kPreferredBlock = 4096;
inline constexpr uint32_t kMaxPayload = 32U << 20;
inline constexpr size_t kMaxString = 4096;

}  // namespace blobcache::blockdev::nbd
