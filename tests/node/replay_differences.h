/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of test_replay.c: what our node does otherwise than the recorded one, and why. Not in it,
 * as it cannot differ in a way that counts: queries of the Node and repeated queries of an object
 * (habits of EdgeCore), how a status is cut into patches, ids, times and facts of the machine beyond
 * their form.
 */
#define DEVICES "the recordings of devices are played to the twin"
#define ASKED_ONCE "the list of devices is asked for once on each link: clouds that know it answer, others never do"
#define PROFILE "asks for what a mapper's pod mounts at upstream's: the protocols of its devices"
#define ONE_SUBJECT "sent before the dialect is known; a cloud up to 1.15 takes the key of it only"
#define NO_ATTACH "no volume of this node is attached by a controller"
#define NO_HUGE "huge pages are refused: there is nothing to tell"
#define UNMEASURED "the recorded machine could not measure its disk"
#define UID_FIRST "waits for the uid of the Node: an empty one is refused, as recorded"
#define NO_PROBE "probes come later: the pod is played without, so it is ready when it runs"
#define ONCE "upstream deletes it again when it is gone"
#define MADE_ANEW "a cloud of 1.15 does not tell of one that is made anew: it is asked for"
#define TOLD_AGAIN "the Node is a new one: its cloud may know nothing of the pods"
#define REGISTERS "registers again when its Node is gone; upstream waits for a restart"
#define LABELS "the labels of a Node that is there already are brought up to date"
#define AT_ONCE "after a reconnect the status is sent at once: the node is Ready the sooner"
#define MORE_FACTS "Kubernetes knows it, though EdgeCore 1.4 did not tell it"
#define NO_CSI "there is no CSINode to wait for"
#define OWN_NAME "the name of the runtime, which EdgeCore 1.4 calls remote"
#define NO_TIME "EdgeCore 1.4 wrote null"
#define EACH_CHANGE "each change is told; EdgeCore 1.4 looks every ten seconds"
#define HOW_IT_ENDED "how it ended is told; EdgeCore 1.4 tells one container without a name"
#define ASKS "asks for the deletion: a cloud that is away may miss the last status"
#define IMAGE_FIRST "objects are asked for when the image is there"
{"1.4", "query configmap", MORE, PROFILE, 0},
{"1.15/50 1.4/04", "get detail", NOT_SENT, ASKED_ONCE, 0},
{"1.15 1.4", "http /edge.crt", "csr", ONE_SUBJECT, 0},
{"1.15 1.23", "insert node", "content.metadata.annotations", NO_ATTACH, 0},
{"1.15 1.23", "", "content.status.capacity.hugepages-1Gi", NO_HUGE, 0},
{"1.15 1.23", "", "content.status.capacity.hugepages-2Mi", NO_HUGE, 0},
{"1.15 1.23", "", "content.status.allocatable.hugepages-1Gi", NO_HUGE, 0},
{"1.15 1.23", "", "content.status.allocatable.hugepages-2Mi", NO_HUGE, 0},
{"1.15 1.23", "node", "status.capacity.hugepages-1Gi", NO_HUGE, 0},
{"1.15 1.23", "node", "status.capacity.hugepages-2Mi", NO_HUGE, 0},
{"1.15 1.23", "node", "status.allocatable.hugepages-1Gi", NO_HUGE, 0},
{"1.15 1.23", "node", "status.allocatable.hugepages-2Mi", NO_HUGE, 0},
{"1.15", "insert node", "content.status.capacity.ephemeral-storage", UNMEASURED, 0},
{"1.15", "insert node", "content.status.allocatable.ephemeral-storage", UNMEASURED, 0},
{"1.15", "node", "status.capacity.ephemeral-storage", UNMEASURED, 0},
{"1.15", "node", "status.allocatable.ephemeral-storage", UNMEASURED, 0},
{"1.15/01", "insert lease", NOT_SENT, UID_FIRST, 0},
{"1.15/01", "query lease", NOT_SENT, UID_FIRST, 0},
{"1.15/07 1.15/08 1.15/09", "course of pod", "condition.Ready", NO_PROBE, 0},
{"1.15/07 1.15/08 1.15/09", "course of pod", "condition.ContainersReady", NO_PROBE, 0},
{"1.15/07 1.15/08 1.15/09", "course of pod", "ready.main", NO_PROBE, 0},
{"1.15/07 1.15/08", "pod", "status.conditions[Ready]", NO_PROBE, 0},
{"1.15/07 1.15/08", "pod", "status.conditions[ContainersReady]", NO_PROBE, 0},
{"1.15/07 1.15/08", "pod", "status.containerStatuses[main].ready", NO_PROBE, 0},
{"1.15/09 1.15/45", "delete pod", NOT_SENT, ONCE, 0},
{"1.15/16", "query configmap", MORE, MADE_ANEW, 0},
{"1.15/47", "patch podpatch", MORE, TOLD_AGAIN, 0},
{"1.15/42 1.15/44", "update node", MORE, LABELS, 0},
{"1.15/43", "patch nodepatch", MORE, AT_ONCE, 0},
{"1.15/46", "ack of delete devicemodel", "route", DEVICES, 0},
{"1.15/46", "ack of delete device", "route", DEVICES, 0},
{"1.15/47", "insert node", MORE, REGISTERS, 0},
{"1.15/47", "query lease", NOT_SENT, REGISTERS, 0},
{"1.15/47", "insert lease", NOT_SENT, REGISTERS, 0},
{"1.15/47", "insert lease", "content.metadata.ownerReferences[edge-up1].uid",
 "names the Node it knows, not none", 0},
{"1.15/50", "update kube-node-lease/lease/", NOT_SENT,
 "upstream takes the empty Lease of the error for its own", 0},
{"1.15/50", "query lease", MORE, "reads the Lease again before it renews it", 0},
{"1.4", "insert nodestatus", "content.metadata.labels.beta.kubernetes.io/arch", MORE_FACTS, 0},
{"1.4", "insert nodestatus", "content.metadata.labels.beta.kubernetes.io/os", MORE_FACTS, 0},
{"1.4", "insert nodestatus", "content.status.capacity.ephemeral-storage", MORE_FACTS, 0},
{"1.4", "insert nodestatus", "content.status.allocatable.ephemeral-storage", MORE_FACTS, 0},
{"1.4", "update nodestatus", "content.Status.capacity.ephemeral-storage", MORE_FACTS, 0},
{"1.4", "update nodestatus", "content.Status.allocatable.ephemeral-storage", MORE_FACTS, 0},
{"1.4", "update nodestatus", "content.Status.conditions[MemoryPressure]", MORE_FACTS, 0},
{"1.4", "update nodestatus", "content.Status.conditions[DiskPressure]", MORE_FACTS, 0},
{"1.4", "update nodestatus", "content.Status.conditions[PIDPressure]", MORE_FACTS, 0},
{"1.4", "node", "status.capacity.ephemeral-storage", MORE_FACTS, 0},
{"1.4", "node", "status.allocatable.ephemeral-storage", MORE_FACTS, 0},
{"1.4", "node", "status.conditions[MemoryPressure]", MORE_FACTS, 0},
{"1.4", "node", "status.conditions[DiskPressure]", MORE_FACTS, 0},
{"1.4", "node", "status.conditions[PIDPressure]", MORE_FACTS, 0},
{"1.4", "course of node", "condition.MemoryPressure", MORE_FACTS, 0},
{"1.4", "course of node", "condition.DiskPressure", MORE_FACTS, 0},
{"1.4", "course of node", "condition.PIDPressure", MORE_FACTS, 0},
{"1.4", "node", "metadata.labels.beta.kubernetes.io/arch", MORE_FACTS, 0},
{"1.4", "node", "metadata.labels.beta.kubernetes.io/os", MORE_FACTS, 0},
{"1.15/60 1.23/01", "insert node", "content.status.conditions[Ready]", NO_CSI, 0},
{"1.15/60 1.23/01", "course of node", "condition.Ready", NO_CSI, 0},
{"1.4", "insert nodestatus", "content.status.nodeInfo.containerRuntimeVersion", OWN_NAME, 0},
{"1.4", "update nodestatus", "content.Status.nodeInfo.containerRuntimeVersion", OWN_NAME, 0},
{"1.4", "node", "status.nodeInfo.containerRuntimeVersion", OWN_NAME, 0},
{"1.4", "pod", "status.podIPs", MORE_FACTS, 0},
{"1.4", "pod", "status.conditions[ContainersReady]", MORE_FACTS, 0},
{"1.4", "course of pod", "condition.ContainersReady", MORE_FACTS, 0},
{"1.4", "pod", "status.conditions[Initialized].lastTransitionTime", NO_TIME, 0},
{"1.4", "pod", "status.conditions[Ready].lastTransitionTime", NO_TIME, 0},
{"1.4", "pod", "status.conditions[PodScheduled].lastTransitionTime", NO_TIME, 0},
{"1.4/21", "course of pod", "condition.Ready", EACH_CHANGE, 0},
{"1.4/21", "course of pod", "container.main", EACH_CHANGE, 0},
{"1.4/21", "course of pod", "ready.main", EACH_CHANGE, 0},
{"1.4/10 1.4/22", "course of pod", "condition.Ready", HOW_IT_ENDED, 0},
{"1.4/10 1.4/22", "course of pod", "container", HOW_IT_ENDED, 0},
{"1.4/10 1.4/22", "course of pod", "ready", HOW_IT_ENDED, 0},
{"1.4/10 1.4/22", "pod", "status.conditions[Ready]", HOW_IT_ENDED, 0},
{"1.4/10 1.4/22", "pod", "status.containerStatuses", HOW_IT_ENDED, 0},
{"1.4/10 1.4/22", "pod", "status.hostIP", HOW_IT_ENDED, 0},
{"1.4/10 1.4/22", "pod", "status.podIP", HOW_IT_ENDED, 0},
{"1.4/10 1.4/22", "pod", "status.qosClass", HOW_IT_ENDED, 0},
{"1.4/10 1.4/22", "delete pod", MORE, ASKS, 0},
{"1.4/02", "query configmap", NOT_SENT, IMAGE_FIRST, 0},
{"1.4/02", "query secret", NOT_SENT, IMAGE_FIRST, 0},
