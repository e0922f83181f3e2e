/* All of the kernel's C as one translation unit, so that the compiler sees through every call on the way of a command. */

#include "stats.c" /* first, since it says which features of the system it needs */

#include "execute.c"
#include "audit.c"
#include "bits.c"
#include "hash.c"
#include "journal.c"
#include "members.c"
#include "pack.c"
#include "parser.c"
#include "profile.c"
#include "rdb.c"
#include "save.c"
#include "service.c"
#include "spans.c"
#include "table.c"
#include "tally.c"
#include "text.c"
#include "type_hash.c"
#include "type_list.c"
#include "type_set.c"
#include "type_sorted_set.c"
#include "type_stream.c"

#include "backing.c" /* behind table.c, of which it looks at the inside */
#include "load.c"    /* last, since it makes values of all types */
