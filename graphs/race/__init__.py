"""A race: arms train beside the main line in short rungs, and the first policy that is proven better is adopted.

The claim is about a policy: the one in hand returns more than the best that the main line has had in this race. Both
can be played as often as one likes, so that variance over training seeds plays no part, and no arm needs a second seed.

    begin_race   arms from one snapshot of the main line, whose own policy plays the first episodes
    race_on      the next rung, unless the race is over
    run_rung     every arm trains a rung; arms and main line play fresh episodes; who goes on; who is confirmed
    why_over     an arm is proven, none is left but a fresh start, the main line solves the task by itself or has left
                 the arms behind, or the budget is used up

Under the lockstep clock the main line itself is the control: it trains a rung while the trainer is released, and its
steps stay main steps as long as it stays the main line. Under the overlap clock it never waits, so the control is one
more branch, under the signal and the random streams of the main line. So it is offline, where no trainer trains beside
(`Context.offline`); its steps count as main steps or not by the run's clock.

Every figure that decides something is in the race's record, and what is computed from it is the same when a node runs
again after a crash: branches and evaluations are known by their keys.

Modules, in reading order:

    rung          a race from its beginning to its end, a rung at a time
    arms          who races, from where, with what; who waits, who is left, what the next race takes over
    looks         fresh episodes of all policies after a rung, which select
    confirmation  fresh episodes of two policies, which prove
"""
