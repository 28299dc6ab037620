/*
 * Who may begin, stop, repeat and withdraw a build and its deploy, with every process dying at any
 * instant.  One build: its test (may be repeated), then its deploy (at most once).
 *
 * What is atomic here is atomic in Leeroy: a transaction is one compare-and-swap of the build's
 * row; `begin` is claimed by one link(2); a supervisor's lock falls with its death.
 * -DCLAIM_IN_TWO, -DCANCEL_BLINDLY, -DREPEAT_LOST and -DLAUNCH_FIRST are errors that must be found.
 */
mtype = { queued, building, pending, deploying, interrupted, cancelled, failed, done };
mtype = { nobody, script, revoked };

#ifndef DEATHS
#define DEATHS 1
#endif
#define RUNS 9

mtype state = queued;
byte version = 0;
bool stop_asked = false, acknowledged = false, tested = false;
byte deploys = 0, requeues = 0, withdrawals = 0, deaths = 0, hasty = 0;

/* the run directory of the run that the row names */
byte named = 0;
bool launched[RUNS], locked[RUNS], ended[RUNS];
mtype begun[RUNS] = nobody;
byte alive = 0;          /* scripts that execute at this instant */

inline next_run() {
    if
    :: named + 1 < RUNS -> named++
    :: else -> skip
    fi
}

bool deploy_of[RUNS];

proctype supervisor(byte r) {
    bool free_to_begin = false;
    atomic { if :: locked[r] -> goto gone :: else -> locked[r] = true fi }
#ifdef CLAIM_IN_TWO
    free_to_begin = (begun[r] == nobody);
    if :: free_to_begin -> begun[r] = script :: else -> goto give_up fi;
#else
    atomic { if :: begun[r] == nobody -> begun[r] = script; free_to_begin = true :: else -> skip fi };
    if :: !free_to_begin -> goto give_up :: else -> skip fi;
#endif
    atomic {
        alive++;
        assert(alive == 1);                       /* two attempts never at once */
        if
        :: deploy_of[r] ->
            deploys++;
            assert(deploys == 1);                 /* a deploy is executed once */
            assert(tested);                       /* and never untested */
            assert(!acknowledged);                /* and not after "cancelled" */
            assert(state == deploying)            /* and its row said so before */
        :: else -> skip
        fi
    }
    if
    :: atomic { deaths < DEATHS -> deaths++; alive--; locked[r] = false; goto gone }  /* unseen */
    :: atomic { alive--; ended[r] = true; locked[r] = false; goto gone }
    fi;
give_up:
    locked[r] = false;
gone:
    skip
}

active proctype server() {
    mtype seen; byte at;
again:
    do
    :: atomic { seen = state; at = version };
       if
       :: seen == queued ->
          atomic {
              if :: version == at ->
                  next_run(); state = building; version++
              :: else -> goto again
              fi };
          goto launch
       :: seen == pending ->
#ifdef LAUNCH_FIRST
          atomic { next_run(); deploy_of[named] = true; run supervisor(named); launched[named] = true };
          atomic { if :: version == at -> state = deploying; version++ :: else -> goto again fi };
          goto again;
#else
          atomic {
              if :: version == at ->
                  next_run(); deploy_of[named] = true; state = deploying; version++
              :: else -> goto again
              fi };
          goto launch
#endif
       :: (seen == building || seen == deploying) -> goto look
       :: else -> break
       fi
launch:
       if
       :: atomic { deaths < DEATHS -> deaths++; goto again }    /* it dies; the next one looks */
       :: atomic { !launched[named] -> launched[named] = true; run supervisor(named) }
       fi;
       goto again;
look:
       if
       :: atomic { ended[named] ->
             if
             :: state == building && stop_asked -> state = cancelled
             :: state == building && !stop_asked -> tested = true; state = pending
             :: state == deploying -> state = done
             :: else -> skip
             fi; version++ }
       :: atomic { begun[named] == script && !locked[named] && !ended[named] ->  /* lost */
             if
             :: state == building && stop_asked -> state = cancelled
             :: state == building && !stop_asked && requeues < 1 -> requeues++; state = queued
             :: state == building && !stop_asked && requeues >= 1 -> state = failed
#ifdef REPEAT_LOST
             :: state == deploying -> state = pending
#else
             :: state == deploying -> state = interrupted
#endif
             :: else -> skip
             fi; version++ }
       :: begun[named] == nobody && !locked[named] && (hasty < 2 || !launched[named]) ->
          /* recovery claims it: what was ordered may be on its way, and then one of both wins */
          atomic {
             if
             :: begun[named] == nobody ->
                if :: launched[named] -> hasty++ :: else -> skip fi;
                begun[named] = revoked;
                if
                :: state == building && stop_asked -> state = cancelled
                :: state == building && !stop_asked -> state = queued
                :: state == deploying && withdrawals < 1 -> withdrawals++; state = pending
                :: state == deploying && withdrawals >= 1 -> state = failed
                :: else -> skip
                fi; version++
             :: else -> skip
             fi }
       fi
    od;
    /* nobody waits for ever: the build is over, or a person is asked */
    assert(state == done || state == cancelled || state == failed || state == interrupted)
}

active proctype person() {
    mtype seen; byte at;
    atomic { seen = state; at = version };
    if
    :: (seen == queued || seen == pending) ->
#ifdef CANCEL_BLINDLY
       atomic { state = cancelled; version++; acknowledged = true }
#else
       atomic {
           if :: version == at -> state = cancelled; version++; acknowledged = true
           :: else -> skip                               /* overtaken: not acknowledged */
           fi }
#endif
    :: seen == building ->
       atomic {
           if :: version == at && state == building -> stop_asked = true; acknowledged = true
           :: else -> skip
           fi }
    :: else -> skip                                      /* too late, and it is said */
    fi
}
