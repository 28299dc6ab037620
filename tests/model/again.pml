/*
 * A deploy that is lost more than once, with the rule "again": its supervisor dies and its script lives
 * on, the server dies at any instant, and somebody may remove the run's directory.
 *
 * What is atomic here is atomic in Leeroy: a commit, a rename, a link(2), a look at one file.
 * -DBY_BUILD, -DFOLLOW_AT_ONCE, -DNO_NOTE and -DNOTE_LAST are errors that must be found.
 */
mtype = { pending, deploying, interrupted, over };
mtype = { nobody, script, revoked };

#define RUNS 4
#define LOSSES 2
#ifndef DEATHS
#define DEATHS 1
#endif
#define REMOVALS 1

mtype state = pending;
byte named = 0;                      /* the run that the row names; each attempt has its own */
byte deploys = 0, agains = 0, losses = 0, deaths = 0, removals = 0;
byte alive = 0;                      /* scripts that execute at this instant */

/* the run directories, the notes that there were some, and the processes */
bool dir[RUNS], noted[RUNS], ended[RUNS], supervised[RUNS], lives[RUNS];
mtype begun[RUNS] = nobody;

/* the server's memory: what provably left nothing, and how far the launch is */
bool cleared[RUNS];
byte at = 0;

#ifdef BY_BUILD
#define CLEARED cleared[0]
#else
#define CLEARED cleared[named]
#endif

inline end_what_is_left() {
    if :: lives[named] -> lives[named] = false; alive-- :: else -> skip fi;
    CLEARED = true
}

proctype deploy(byte r) {
    atomic {
        if
        :: dir[r] && begun[r] == nobody ->
            begun[r] = script; supervised[r] = true; lives[r] = true;
            alive++; assert(alive == 1);                  /* two attempts never at once */
            deploys++; assert(deploys <= 1 + agains)      /* and none that nobody asked for */
        :: else -> goto gone
        fi
    };
    do
    :: atomic { supervised[r] && lives[r] ->
          lives[r] = false; alive--; ended[r] = true; supervised[r] = false; break }
    :: atomic { supervised[r] && lives[r] && losses < LOSSES -> losses++; supervised[r] = false }
    :: atomic { !supervised[r] && lives[r] -> lives[r] = false; alive--; break }
    :: atomic { !lives[r] -> supervised[r] = false; break }
    od;
gone:
    skip
}

active proctype server() {
    byte n;
    do
    :: atomic { state == pending && named + 1 < RUNS -> named++; state = deploying; at = 1 }
    :: state == pending && named + 1 == RUNS -> break
    :: state == over -> break
    :: atomic { at == 1 -> dir[named] = true; at = 2 }
#ifdef NOTE_LAST
    :: atomic { at == 2 -> run deploy(named); at = 3 }
    :: atomic { at == 3 -> noted[named] = true; at = 0 }
#else
    :: atomic { at == 2 -> noted[named] = true; at = 3 }
    :: atomic { at == 3 -> run deploy(named); at = 0 }
#endif
    :: atomic { deaths < DEATHS ->                        /* it dies; the next one knows nothing */
          deaths++; at = 0; n = 0;
          do :: n < RUNS -> cleared[n] = false; n++ :: else -> break od }

    /* a look at the run, by a server that is not just launching it */
    :: atomic { at == 0 && state == deploying && dir[named] && ended[named] -> state = over }
    :: atomic { at == 0 && state == deploying && dir[named] && begun[named] == nobody ->
          begun[named] = revoked; state = pending }
    :: atomic { at == 0 && state == deploying && dir[named] && begun[named] == script &&
                !ended[named] && !supervised[named] ->
          if :: end_what_is_left() :: skip fi;            /* it may be stuck */
          state = interrupted }
#ifdef NO_NOTE
    :: atomic { at == 0 && state == deploying && !dir[named] -> state = pending }
#else
    :: atomic { at == 0 && state == deploying && !dir[named] && noted[named] -> state = interrupted }
    :: atomic { at == 0 && state == deploying && !dir[named] && !noted[named] -> state = pending }
#endif

    /* what becomes of an interrupted one: by the rule, or by a person who looked */
    :: atomic { state == interrupted && dir[named] && !CLEARED -> end_what_is_left() }
#ifdef FOLLOW_AT_ONCE
    :: atomic { state == interrupted -> agains++; state = pending }
#else
    :: atomic { state == interrupted && CLEARED -> agains++; state = pending }
#endif
    :: atomic { state == interrupted && alive == 0 -> agains++; state = pending }
    od
}

active proctype operator() {
    do
    :: atomic { removals < REMOVALS && dir[named] -> removals++; dir[named] = false }
    :: break
    od
}
