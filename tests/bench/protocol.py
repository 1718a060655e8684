"""What the benchmark runs: profiles, each a protocol (classes, steps, network, epochs, seeds) and rows of job options."""

import dataclasses

# Class order A: numpy's RandomState(1993).permutation(100), as in iCaRL's and the surveys' code.
ORDER_A = [
    68, 56, 78, 8, 23, 84, 90, 65, 74, 76, 40, 89, 3, 92, 55, 9, 26, 80, 43, 38, 58, 70, 77, 1, 85, 19, 17, 50, 28, 53, 13, 81, 45,
    82, 6, 59, 83, 16, 15, 44, 91, 41, 72, 60, 79, 52, 20, 10, 31, 54, 37, 95, 14, 71, 96, 98, 97, 2, 64, 66, 42, 22, 35, 86, 24,
    34, 87, 21, 99, 0, 88, 27, 18, 94, 11, 12, 47, 25, 30, 46, 62, 69, 36, 61, 7, 63, 75, 5, 32, 4, 51, 48, 73, 93, 39, 67, 29, 49,
    57, 33]

# The controls as README.md has them. Their last model teaches whole: pruning is M2KD's. An image is seen as it is, once, and so are its
# features.
WHOLE = {"prune": {"keep": 1, "epochs": 0, "bits": 16}}
ONE_VIEW = {"mirror": False, "feature_power": 1}
LAST = {"method": "m2kd", "teachers": "last", "aux": False, "feature_weight": 0, **WHOLE, **ONE_VIEW}
LWF_MC = {**LAST, "loss": "sigmoid", "head": {"reserve": 100}, "lr": 2, "lr_later": 1, "schedule": "step", "weight_decay": 1e-5}
FINETUNE = {"method": "finetune", "aux": False, **WHOLE, **ONE_VIEW}
DEFAULT = {"method": "m2kd", "teachers": "all", "aux": False, "loss": "sigmoid", "classifier": "discriminant"}
# With the auxiliary heads, as the paper has them; what the rows of the ablation change a part of.
M2KD = {"method": "m2kd", "teachers": "all", "aux": True, "loss": "sigmoid", "feature_weight": 3, **ONE_VIEW}
ONE_NETWORK = {"experts": 0}  # earlier snapshots teach, and do not classify
HEAD, PROTOTYPES = {"classifier": "head"}, {"classifier": "prototypes", **ONE_NETWORK}
DISCRIMINANT = {"classifier": "discriminant"}
EXEMPLARS = {"exemplars": {"total": 2000}}

CONTROLS = {
    "finetune": {**FINETUNE, **HEAD},
    "lwf.mc": {**LWF_MC, **HEAD},
    "m2kd": DEFAULT,  # the daemon's
}
# How earlier models are kept: pruned, each by itself (the default, 25 %); not pruned; pruned, sharing their weights.
STORES = {"": {}, ", whole": WHOLE, ", shared": {"store": "shared"}}
# Those that keep images of old classes, as the surveys do.
REPLAY = {
    "finetune+2000 exemplars, experts": {**DEFAULT, **EXEMPLARS, "method": "finetune"},  # the daemon's, where exemplars are kept
    "m2kd+2000 exemplars": {**DEFAULT, **EXEMPLARS},
    "icarl, 2000 exemplars": {**LWF_MC, **PROTOTYPES, **EXEMPLARS},
}
# What the defaults were before: one network, which may change less; then experts, with auxiliary heads and one view.
BEFORE = {
    "m2kd, one network": {**M2KD, **DISCRIMINANT, **ONE_NETWORK, "lr_later": 0.25, "feature_weight": 10},
    "m2kd, aux on, one view": {**M2KD, **DISCRIMINANT},
}
NO_FEATURES = {"feature_weight": 0}
ABLATION = {
    "finetune+prototypes": {**FINETUNE, **PROTOTYPES},
    "frozen": {"method": "frozen", **PROTOTYPES, **WHOLE, **ONE_VIEW},
    "lwf": {**LAST, **HEAD, "loss": "softmax"},
    "lwf.mc+prototypes": {**LWF_MC, **PROTOTYPES},
    # M2KD as we read it, by its parts; what we add to it comes after, the experts last.
    **{f"{teachers}, aux {aux}{name}": {**M2KD, **NO_FEATURES, **PROTOTYPES, **store, "teachers": teachers, "aux": aux == "on"}
       for name, store in STORES.items() for teachers in ("last", "all") for aux in ("off", "on")},
    "features": {**M2KD, **PROTOTYPES},  # all, aux on, and the features distilled too: the base of the rows below
    "features, aux off": {**M2KD, **PROTOTYPES, "aux": False},
    "features 10": {**M2KD, **PROTOTYPES, "feature_weight": 10},
    "features 30": {**M2KD, **PROTOTYPES, "feature_weight": 30},
    "discriminant": {**M2KD, **DISCRIMINANT, **ONE_NETWORK},
    "experts": {**M2KD, **DISCRIMINANT},
    "experts, aux off": {**M2KD, **DISCRIMINANT, "aux": False},
    "experts, aux off, features 1": {**M2KD, **DISCRIMINANT, "aux": False, "feature_weight": 1},
    "experts, aux off, features 1, mirror, power 0.7": DEFAULT,
    "experts, finetune": {**FINETUNE, **DISCRIMINANT},
    "experts, 1": {**M2KD, **DISCRIMINANT, "experts": 1},
    **{f"experts, keep {percent} %": {**M2KD, **DISCRIMINANT, "prune": {"keep": percent / 100}} for percent in (100, 50, 10, 5)},
    "every teacher for every image": {**M2KD, **PROTOTYPES, "teachers_per_image": 0},
    "teachers in fp32": {**M2KD, **PROTOTYPES, "teachers_precision": "fp32"},
    "bf16": {**M2KD, **PROTOTYPES, "precision": "bf16"},
    "lambda 0.25": {**M2KD, **PROTOTYPES, "lambda": 0.25},
    "lambda 4": {**M2KD, **PROTOTYPES, "lambda": 4},
    "softmax": {**M2KD, **PROTOTYPES, "loss": "softmax"},
    "head": {**M2KD, **HEAD},
    "softmax, head": {**M2KD, **HEAD, "loss": "softmax"},
    **{f"keep {percent} %{name}": {**M2KD, **PROTOTYPES, **store, "prune": {"keep": percent / 100}}
       for name, store in STORES.items() if name != ", whole" for percent in (50, 10, 5)},
    "16 bits": {**M2KD, **PROTOTYPES, "prune": {"bits": 16}},
    "8 bits": {**M2KD, **PROTOTYPES, "prune": {"bits": 8}},
    "4 bits": {**M2KD, **PROTOTYPES, "prune": {"bits": 4}},
    "retrained 2 epochs": {**M2KD, **PROTOTYPES, "prune": {"epochs": 2}},
}


# What the defaults were chosen from.
TUNING = {
    "default": DEFAULT,
    "mirror off": {**DEFAULT, "mirror": False},
    "feature_power 1": {**DEFAULT, "feature_power": 1},
    "experts 0": {**DEFAULT, **ONE_NETWORK},
    "no features": {**DEFAULT, "feature_weight": 0},
    "features 3": {**DEFAULT, "feature_weight": 3},
    "features 10": {**DEFAULT, "feature_weight": 10},
    "aux on": {**DEFAULT, "aux": True},
    "aux_weight 0.1": {**DEFAULT, "aux": True, "aux_weight": 0.1},
    "lr_later 0.5": {**DEFAULT, "lr_later": 0.5},
    "lr_later 0.25": {**DEFAULT, "lr_later": 0.25},
    "lr 0.05": {**DEFAULT, "lr": 0.05},
    "weight_decay 0.0005": {**DEFAULT, "weight_decay": 0.0005},
    "teachers last": {**DEFAULT, "teachers": "last"},
    "softmax": {**DEFAULT, "loss": "softmax"},
}


@dataclasses.dataclass(frozen=True)
class Profile:
    title: str
    classes: int          # the first so many of the order
    per_step: int
    network: dict         # options of the first job alone
    training: dict        # options of every job
    seeds: tuple
    rows: dict            # method: its options
    source: str = "cifar100"
    reference: str = ""   # figures of others for the same setting, to stand under the table
    daemon: tuple = ()    # options of the daemon
    compare: tuple = (("m2kd", "lwf.mc"), ("m2kd", "finetune"))  # rows whose differences are told
    # Seed s takes the s-th so many classes of the order, and measures on images held out of training: for choosing settings.
    tuning: bool = False


def full(per_step, reference):
    return Profile(f"CIFAR-100, {100 // per_step} steps of {per_step} classes", 100, per_step, {"depth": 32},
                   {"epochs": 70, "batch": 128, "precision": "fastest"}, (1,),
                   {**CONTROLS, **BEFORE, **REPLAY, **{k: ABLATION[k] for k in ("frozen", "lwf")}},
                   reference=reference)


def joint(profile, title, reference=""):
    """The upper bound: all classes of a profile in one step, which takes the images of all of them at once."""
    return dataclasses.replace(profile, title=title, per_step=profile.classes, rows={"joint": {**FINETUNE, **HEAD}}, compare=(),
                               reference=reference)


def tuning(depth, per_step, epochs):
    """Settings are chosen here, on images that the tables of the method never measure."""
    return dataclasses.replace(
        SHORT, title=f"CIFAR-100, {SHORT.classes // per_step} steps of {per_step} of four times {SHORT.classes} classes, held-out training "
        f"images, ResNet-{depth}", per_step=per_step, network={"depth": depth},
        training={**SHORT.training, "epochs": epochs, "precision": "fastest"}, rows=TUNING, seeds=(1, 2, 3, 4), tuning=True,
        compare=tuple((row, "default") for row in TUNING if row != "default"))


SHORT = Profile("CIFAR-100, the first 20 classes, 4 steps of 5", 20, 5, {"depth": 8}, {"epochs": 20, "batch": 128}, (1, 2, 3),
                CONTROLS)
PROFILES = {
    "short": SHORT,
    "ablation": dataclasses.replace(SHORT, title=SHORT.title + ", ablation", rows=ABLATION),
    "short-joint": joint(SHORT, "CIFAR-100, the first 20 classes at once"),
    "tuning": tuning(8, 5, 20),
    # What is best for a shallow network and few epochs need not be for those of the full profile: its first two steps.
    "tuning-32": tuning(32, 10, 70),
    "full-5": full(5, "iCaRL Table 1a: LwF.MC 32.6, iCaRL 61.2; CIL survey: finetune 17.59 / 4.83, LwF 30.93 / 12.60, "
                      "iCaRL 63.51 / 45.12"),
    "full": full(10, "iCaRL Table 1a: LwF.MC 44.4, iCaRL 64.1; CIL survey: finetune 26.25 / 9.09, LwF 43.56 / 23.25, "
                     "iCaRL 64.42 / 49.52; ABD's README: last accuracy of LwF.MC 17.1"),
    "full-20": full(20, "iCaRL Table 1a: LwF.MC 54.4, iCaRL 67.2; ABD's README: last accuracy of LwF.MC 32.5"),
    "full-joint": joint(full(10, ""), "CIFAR-100, all classes at once", "iCaRL Table 1a: 68.6; ABD's README: 69.9"),
    "ilsvrc-small": Profile("ILSVRC-small, 100 classes, 10 steps of 10", 100, 10,
                            {"depth": 18, "input": {"channels": 3, "height": 224, "width": 224}},
                            {"epochs": 60, "batch": 128, "pad": 16}, (1,),
                            CONTROLS, source="folders",
                            daemon=("--max-upload-bytes", "16G")),
}


@dataclasses.dataclass(frozen=True)
class Run:
    """One row of a profile under one seed."""
    profile: str
    method: str
    seed: int
    validate: bool        # measure on a tenth of the training images instead of the test images
    epochs: int           # of each step

    @property
    def name(self):
        method = "".join(c if c.isalnum() or c in ".+" else "-" for c in self.method.replace(" %", "")).replace("--", "-")
        return f"{self.profile}-{method}-s{self.seed}" + ("-validation" if self.validate else "")

    @property
    def protocol(self):
        return PROFILES[self.profile]

    @property
    def steps(self):
        """The classes of each step, by their numbers in the data set."""
        p = self.protocol
        first = (self.seed - 1) * p.classes if p.tuning else 0
        return [ORDER_A[at:at + p.per_step] for at in range(first, first + p.classes, p.per_step)]

    def options(self, step):
        """Of the job of a step, counted from 1."""
        p = self.protocol
        more = p.network if step == 1 else {}
        # Without the gate: a control that forgets is published like any other, and the next step builds on it.
        return {**p.training, **p.rows[self.method], **more, "epochs": self.epochs, "seed": self.seed, "gate": None}

    def description(self):
        """All that determines the result but the program: what a run that goes on must match."""
        return {"profile": self.profile, "method": self.method, "classes_per_step": self.protocol.per_step,
                "order": [c for step in self.steps for c in step], "seed": self.seed, "epochs": self.epochs,
                "measured_on": "holdout" if self.validate else "test", "requested": [self.options(1), self.options(2)]}


def runs(profile, methods=None, seeds=None, epochs=None, validate=False):
    """Seed after seed, so that whole tables of fewer seeds come first."""
    p = PROFILES[profile]
    unknown = set(methods or ()) - set(p.rows)
    if unknown:
        raise ValueError(f"{profile} has no row {', '.join(sorted(unknown))}; it has {', '.join(p.rows)}")
    return [Run(profile, method, seed, validate or p.tuning, epochs or p.training["epochs"])
            for seed in seeds or p.seeds for method in p.rows if not methods or method in methods]
