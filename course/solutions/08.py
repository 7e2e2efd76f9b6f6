# %% 8.1
guess = 0
# note: There is no stage before the first, so both feeds hand it the images, in the same order, to the same weights.

# %% 8.2
def bound(own, factors):
    "What the errors of all stages are at most"
    bounds = [own[0]]
    for factor, error in zip(factors, own[1:]): bounds.append(factor*bounds[-1] + error)
    return bounds
# note: Common mistake: to stretch the stage's own error as well. It arises behind the stage.

# %% 8.3
def amplification(stage, h, d):
    "By how much the stage stretches a small error d of its input h"
    along = torch.func.jvp(stage, (h,), (d,))[1]
    return along.norm()/d.norm()
# note: Without torch.func: the double-backward trick, or torch.autograd.functional.jvp. A step of full size is not a derivative.

# %% 8.4
def own_error(student, teacher, x, k):
    "Stage k's own error: the root of NMSE on the teacher's input"
    with torch.no_grad():
        hint = teacher.forward_to(x, k)
        before = teacher.forward_to(x, k - 1) if k else x
        tap = student.eval().stages[student.stage_names[k]](before)
    return mimic_nmse(tap, hint).sqrt()
# note: Two bugs: the student's earlier stages feed it, and train mode uses the statistics of the batch.
