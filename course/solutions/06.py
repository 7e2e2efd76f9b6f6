# %% 6.1
guess = .1
# note: Chance, for ten classes of equal size. Many guess high, since "the teacher does most of the work"; some guess 0, which would take knowledge.

# %% 6.2
def stitched(student, adapter, teacher, stage, dl):
    "Share of images that the student up to a stage, then the rest of the teacher, get right"
    right = n = 0
    with kept(student, adapter, teacher), torch.no_grad():
        for net in (student, adapter, teacher): net.eval()
        for images, labels in dl:
            logits = teacher.forward_from(adapter(student.forward_to(images, stage)), stage)
            right, n = right + (logits.argmax(1) == labels).sum().item(), n + len(labels)
    return right/n
# note: Common: the mean of the batches' accuracies, which is another number when the last batch is short; and train mode, which changes the networks while they are measured (lesson 5).

# %% 6.3
def with_teachers_head(student, adapter, teacher):
    "A network without the teacher's stages and with the teacher's head"
    return StagedNet(student.stages, nn.Sequential(adapter, copy.deepcopy(teacher.head)))
# note: Without the deepcopy all is well until somebody fine-tunes the student.

# %% 6.4
def fair_epochs(run, student, x, y, images):
    "Epochs on labels only that cost as much as the run"
    net = copy.deepcopy(student)
    step = count_macs(lambda: F.cross_entropy(net(x), y).backward())/len(x)
    return max(1, round(run.gmacs*1e9/(step*images)))
# note: Common: counting the forward pass only (three times too many epochs), forgetting to divide by the batch, or giving as many epochs as the run had.
# note: Rounding down is as good, and so are three forward passes of `stage_table` for a step.
# note: The copy keeps the student free of left-over gradients; the check does not insist on it, lesson 5 does.
