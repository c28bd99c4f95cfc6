/* SPDX-License-Identifier: Apache-2.0 */
/* What both directions of pb.h share. */
#ifndef KEI_DMI_PB_PRIV_H
#define KEI_DMI_PB_PRIV_H

#include "dmi/pb.h"

size_t kei_pb_count(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f);
const void *kei_pb_at(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, size_t i);
/* map<string, ...>: protobuf makes it a list of entries */
bool kei_pb_is_map(const ProtobufCFieldDescriptor *f);

#endif
